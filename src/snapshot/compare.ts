import type { IndexManifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import { eachEntry, lengthAt } from './block.ts'
import type { Where } from './corrupt.ts'
import { REMOVE } from './entry.ts'
import { compareKeys } from './entry-order.ts'
import { type KeySample, sampleKey } from './key-sample.ts'
import { readIndex } from './read.ts'
import { netRecords, RECORD_HEADER, RecordBuffer, sortByBlock, sortRecords } from './records.ts'
import type { Runs } from './runs.ts'

export interface Comparison {
  /** Keys of either side. */
  keys: number
  /** Keys whose entries are not the same on both sides. */
  different: KeySample
}

/**
 * Compares what the runs add up to with a version's index: takes all entries of the version from it, and looks for what remains. Both sides are
 * read by hash range, each once, so that what is held in memory is one range of records and a batch of blocks, whatever the index's size.
 */
export async function compareRuns(
  runs: Runs,
  version: { data: DataStore; where: Where; index: IndexManifest },
  signal: AbortSignal,
): Promise<Comparison> {
  const { data, where, index } = version
  const found: Comparison = { keys: 0, different: { count: 0, keys: [] } }
  const many = index.kind === 'many'
  const rangeBits = runs.rangeBits(index.bits)
  const span = 2 ** (index.bits - rangeBits)
  const records = new RecordBuffer()

  const loadRange = async (range: number) => {
    signal.throwIfAborted()
    await runs.read(rangeBits, range, records)
    return { end: (range + 1) * span, next: 0, ...sortByBlock(records, index.bits, range * span, span) }
  }
  let range = await loadRange(0)

  /** The records of this block less the version's entries: equal when nothing remains. */
  const compareBlock = (block: number, raw: Buffer) => {
    const { blocks, starts, positions, next } = range
    const length = records.length
    const isNext = blocks[next] === block
    const all = isNext ? Array.from(positions.subarray(starts[next], starts[next + 1])) : []
    if (isNext) range.next++
    eachEntry(raw, many, block, where, (start, _keyStart, _keyEnd, _valueStart, end) => {
      all.push(records.add(0, REMOVE, raw, start, end))
    })
    const { bytes } = records
    const sorted = Uint32Array.from(all)
    sortRecords(bytes, sorted, many)
    eachKey(bytes, sorted, () => found.keys++)
    eachKey(bytes, netRecords(bytes, sorted, many), (start, end) => sampleKey(found.different, bytes, start, end))
    records.length = length
  }
  /** Blocks before this one that the version leaves empty. */
  const compareUpTo = async (block: number) => {
    for (;;) {
      for (;;) {
        const own = range.blocks[range.next]
        if (own === undefined || own >= block) break
        compareBlock(own, EMPTY)
      }
      if (block < range.end || range.end === 2 ** index.bits) return
      range = await loadRange(range.end / span)
    }
  }

  for await (const batch of readIndex(data, where, index, signal))
    for (const [block, raw] of batch) {
      await compareUpTo(block)
      compareBlock(block, raw)
    }
  await compareUpTo(2 ** index.bits)
  return found
}

const EMPTY = Buffer.alloc(0)

/** Visits each key of sorted records once. */
function eachKey(bytes: Buffer, positions: Uint32Array, visit: (start: number, end: number) => void): void {
  let last = -1
  for (const position of positions) {
    const key = position + RECORD_HEADER
    if (last < 0 || compareKeys(bytes, last, bytes, key) !== 0) visit(key + 4, key + 4 + lengthAt(bytes, key))
    last = key
  }
}
