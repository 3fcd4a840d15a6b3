import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isSnapflipError } from '../../src/core/errors.ts'
import { sha256 } from '../../src/snapshot/hash.ts'
import {
  type ChildRef,
  decodeAuditPage,
  decodeLocationPage,
  decodeNode,
  emptyAuditPage,
  emptyLocationPage,
  encodeAuditPage,
  encodeLocationPage,
  encodeNode,
  locationAt,
  pageCount,
  rowsAt,
  setLocation,
  treeDepth,
} from '../../src/snapshot/page.ts'
import { where } from './build.ts'

const generation = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex'))
const u32 = fc.nat(0xffffffff)
const location = fc.record({ generation, pack: u32, offset: u32, length: fc.integer({ min: 1, max: 0xffffffff }) })

test('a location page keeps where every block lies', () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(fc.tuple(location, fc.bigInt(0n, 2n ** 64n - 1n))), { minLength: 1, maxLength: 256 }),
      u32,
      (rows, first) => {
        const page = emptyLocationPage(first, rows.length)
        rows.forEach((row, i) => {
          setLocation(page, i, row === null ? null : row[0], row === null ? 5n : row[1])
        })
        const bytes = encodeLocationPage(page)
        const expected = { kind: 'location' as const, level: 0, first, rows: rows.length, sha256: sha256(bytes) }
        const read = decodeLocationPage(bytes, expected, where)
        rows.forEach((row, i) => {
          expect(locationAt(read, i)).toEqual(row === null ? null : row[0])
          expect(read.checksum[i]).toBe(row === null ? 0n : row[1])
        })
        expect(encodeLocationPage(read)).toEqual(bytes)
      },
    ),
  )
})

test('a location page forgets sources that no block uses any more', () => {
  const page = emptyLocationPage(0, 2)
  setLocation(page, 0, { generation: 'a'.repeat(32), pack: 0, offset: 1, length: 1 }, 1n)
  setLocation(page, 1, { generation: 'b'.repeat(32), pack: 0, offset: 1, length: 1 }, 1n)
  const both = encodeLocationPage(page).length
  setLocation(page, 0, { generation: 'b'.repeat(32), pack: 0, offset: 2, length: 1 }, 1n)
  expect(encodeLocationPage(page).length).toBe(both - 20)
})

test('an audit page and a node keep what they were given', () => {
  const audit = emptyAuditPage(256, 3)
  audit.count.set([1, 2, 3])
  audit.sum1.set([1n, 2n ** 64n - 1n, 3n])
  audit.sum2.set([4n, 5n, 6n])
  audit.sha.fill(7)
  const bytes = encodeAuditPage(audit)
  const expected = { kind: 'audit' as const, level: 0, first: 256, rows: 3, sha256: sha256(bytes) }
  expect(decodeAuditPage(bytes, expected, where)).toEqual(audit)
  const children: ChildRef[] = [1, 2, 3].map((n) => ({
    generation: String(n % 2).repeat(32),
    pack: n,
    offset: n * 10,
    length: n * 100,
    sha256: Buffer.alloc(32, n),
  }))
  const node = { kind: 'audit' as const, level: 1, first: 0, children }
  const nodeBytes = encodeNode(node)
  expect(
    decodeNode(nodeBytes, { kind: 'audit', level: 1, first: 0, rows: 3, sha256: sha256(nodeBytes) }, where),
  ).toEqual(node)
})

test('any changed byte, cut or absence of a page is CORRUPT, naming dataset, index, kind and page', () => {
  const page = emptyLocationPage(512, 4)
  setLocation(page, 1, { generation: 'ab'.repeat(16), pack: 3, offset: 9, length: 8 }, 7n)
  const bytes = encodeLocationPage(page)
  const expected = { kind: 'location' as const, level: 0, first: 512, rows: 4, sha256: sha256(bytes) }
  const damaged: Array<Buffer | null> = [null]
  for (let i = 0; i < bytes.length; i++) {
    const copy = Buffer.from(bytes)
    copy[i] = (copy[i] as number) ^ 0x10
    damaged.push(copy, bytes.subarray(0, i))
  }
  for (const stored of damaged)
    expect(() => decodeLocationPage(stored, expected, where)).toThrow(
      /location page at block 512 of index products in shop/,
    )
  // A whole page in another's place, though its hash is the one asked for.
  for (const other of [{ first: 256 }, { rows: 5 }, { level: 1 }, { kind: 'audit' as const }])
    try {
      decodeLocationPage(bytes, { ...expected, ...other }, where)
      expect.unreachable()
    } catch (error) {
      expect(isSnapflipError(error, 'CORRUPT')).toBe(true)
    }
})

test('a tree is as deep as its pages need', () => {
  expect([0, 8, 9, 17, 18, 26, 27, 32].map(treeDepth)).toEqual([0, 0, 1, 1, 2, 2, 3, 3])
  expect([0, 8, 9, 20].map(pageCount)).toEqual([1, 1, 2, 4096])
  expect(rowsAt(3, 0, 0)).toBe(8)
  expect(rowsAt(16, 1, 0)).toBe(256)
  expect(rowsAt(18, 2, 0)).toBe(2)
  expect(rowsAt(18, 1, 131_072)).toBe(512)
})
