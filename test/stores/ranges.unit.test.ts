import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Location } from '../../schemas/manifest.ts'
import { cutRange, planRanges } from '../../src/stores/ranges.ts'

const generations = ['a'.repeat(32), 'b'.repeat(32)]
const locations: fc.Arbitrary<Location[]> = fc.array(
  fc.record({
    generation: fc.constantFrom(...generations),
    pack: fc.nat(2),
    offset: fc.nat(5000),
    length: fc.integer({ min: 1, max: 600 }),
  }),
  { maxLength: 60 },
)
const PACK_BYTES = 5200

/** Byte n of a pack is recognisable. */
function packOf(generation: string, pack: number): Buffer {
  return Buffer.from(Array.from({ length: PACK_BYTES }, (_, n) => (n * 31 + pack * 7 + generation.charCodeAt(0)) % 251))
}

describe('ranges of packs', () => {
  it('give every object exactly its bytes, or null when the pack ends before it does', () => {
    fc.assert(
      fc.property(locations, fc.nat(800), fc.integer({ min: 1, max: 2000 }), (wanted, gapMax, rangeMax) => {
        const found = new Array<Uint8Array | null>(wanted.length).fill(null)
        for (const range of planRanges(wanted, { gapMax, rangeMax })) {
          // An object larger than the limit is a range of its own, with what lies inside it.
          const longest = Math.max(...range.wanted.map((n) => (wanted[n] as Location).length))
          expect(range.end - range.start).toBeLessThanOrEqual(Math.max(rangeMax, longest))
          cutRange(range, packOf(range.generation, range.pack).subarray(range.start, range.end), wanted, found)
        }
        for (const [n, { generation, pack, offset, length }] of wanted.entries()) {
          const expected =
            offset + length > PACK_BYTES ? null : packOf(generation, pack).subarray(offset, offset + length)
          expect(found[n]).toEqual(expected)
        }
      }),
      {
        examples: [
          [
            [
              { generation: 'a'.repeat(32), pack: 1, offset: 1, length: 1 },
              { generation: 'a'.repeat(32), pack: 1, offset: 0, length: 3 },
            ],
            0,
            2,
          ],
        ],
      },
    )
  })

  it('join neighbours and leave what is far apart', () => {
    const at = (offset: number): Location => ({ generation: generations[0] as string, pack: 0, offset, length: 10 })
    const ranges = planRanges([at(1000), at(0), at(12)], { gapMax: 5, rangeMax: 100 })
    expect(ranges.map(({ start, end, wanted }) => ({ start, end, wanted }))).toEqual([
      { start: 0, end: 22, wanted: [1, 2] },
      { start: 1000, end: 1010, wanted: [0] },
    ])
  })
})
