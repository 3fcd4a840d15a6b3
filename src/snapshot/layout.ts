/** Aimed at in a block. 16 was the best of 8, 16, 24 and 32 for gets in a prototype; docs/benchmarks.md says what more would save. */
export const BLOCK_ENTRIES = 16
/** Aimed at in a block before compression, so that large values get fewer to a block. */
export const BLOCK_BYTES = 16 << 10

const GROWTH_MAX = 3
const SHRINK_MAX = 8
const BITS_MAX = 32

function blocksWanted(count: number, bytes: number): number {
  return Math.max(1, Math.min(count, Math.max(count / BLOCK_ENTRIES, bytes / BLOCK_BYTES)))
}

/** Bits of the layout that suits this many entries and bytes: a power of two of blocks, the nearest. */
export function chooseBits(count: number, bytes: number): number {
  return Math.min(BITS_MAX, Math.round(Math.log2(blocksWanted(count, bytes))))
}

/** True when an index has outgrown its layout, or shrunk far below it: the next version should be a full build. */
export function needsRelayout(index: { bits: number; count: number; bytes: number }): boolean {
  const ratio = blocksWanted(index.count, index.bytes) / 2 ** index.bits
  return ratio > GROWTH_MAX || (ratio < 1 / SHRINK_MAX && index.bits > 0)
}
