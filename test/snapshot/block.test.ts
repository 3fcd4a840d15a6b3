import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isSnapflipError } from '../../src/core/errors.ts'
import { blockChecksum, eachEntry, encodeBlock, lookup, lookupMany, openBlock } from '../../src/snapshot/block.ts'
import { blockOf, hashKey, xxh64 } from '../../src/snapshot/hash.ts'
import { encodeEntry, where } from './build.ts'

const keyed = (keys: string[]) =>
  [...new Set(keys)]
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map((key) => ({ key, value: `value of ${key}` }))

test('xxh64 gives the published values', () => {
  expect(xxh64(Buffer.from(''))).toBe(0xef46db3751d8e999n)
  expect(xxh64(Buffer.from('abc'))).toBe(0x44bc2cf5ad770999n)
  const key = Buffer.from('--abc--')
  expect(hashKey(key, 2, 5, 0n)).toBe(0x44bc2cf5)
  expect(blockOf(0x44bc2cf5, 4)).toBe(4)
  expect(blockOf(0x44bc2cf5, 0)).toBe(0)
  expect(blockOf(0xffffffff, 32)).toBe(0xffffffff)
})

test('every key of a block is found with its value, and no other key is', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { maxLength: 40 }), fc.string(), (keys, other) => {
      const entries = keyed(keys)
      const stored = encodeBlock(Buffer.concat(entries.map((entry) => encodeEntry(entry, false))))
      const raw = openBlock(stored, blockChecksum(stored), 0, where)
      for (const { key, value } of entries) expect(lookup(raw, Buffer.from(key))?.toString()).toBe(value)
      if (!keys.includes(other)) expect(lookup(raw, Buffer.from(other))).toBeUndefined()
    }),
  )
})

test('a key of a many index gets all its values in order, and equal values as often as they stand', () => {
  const entries = [
    { key: 'a', order: '1', value: 'x' },
    { key: 'b', order: '1', value: 'x' },
    { key: 'b', order: '1', value: 'x' },
    { key: 'b', order: '2', value: 'a' },
    { key: 'bb', order: '', value: 'z' },
  ]
  const raw = Buffer.concat(entries.map((entry) => encodeEntry(entry, true)))
  const values = (key: string) => lookupMany(raw, Buffer.from(key)).map(String)
  expect(values('b')).toEqual(['x', 'x', 'a'])
  expect(values('bb')).toEqual(['z'])
  expect(values('c')).toEqual([])
  expect(eachEntry(raw, true, 0, where, () => undefined)).toBe(5)
})

test('a block that compression would make larger is stored raw', () => {
  const raw = Buffer.from([0, 0, 0, 1, 65, 0, 0, 0, 0])
  expect(encodeBlock(raw)).toEqual(Buffer.concat([Buffer.from([0]), raw]))
})

test('any changed byte and any cut of a stored block is CORRUPT, naming dataset, index and block', () => {
  const entries = keyed(Array.from({ length: 30 }, (_, i) => `key ${i}`))
  const stored = encodeBlock(Buffer.concat(entries.map((entry) => encodeEntry(entry, false))))
  const checksum = blockChecksum(stored)
  const damaged: Buffer[] = []
  for (let i = 0; i < stored.length; i++) {
    const copy = Buffer.from(stored)
    copy[i] = (copy[i] as number) ^ (1 << (i % 8))
    damaged.push(copy, stored.subarray(0, i))
  }
  for (const bytes of damaged) {
    let error: unknown
    try {
      openBlock(bytes, checksum, 77, where)
    } catch (caught) {
      error = caught
    }
    expect(isSnapflipError(error, 'CORRUPT') && error.message).toMatch(/block 77 of index products in shop/)
  }
})

test('a damaged block whose checksum was not looked at still ends in CORRUPT, never in a huge allocation or a crash', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        const raw = openBlock(bytes, blockChecksum(bytes), 1, where)
        eachEntry(raw, false, 1, where, () => undefined)
      } catch (error) {
        expect(isSnapflipError(error, 'CORRUPT')).toBe(true)
      }
    }),
    { numRuns: 2000 },
  )
})
