import fc from 'fast-check'
import { expect, test } from 'vitest'
import { contentDigest, decodeManifest, encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { add, build, manifestOf } from './build.ts'
import { MemoryStore } from './memory-store.ts'

const store = new MemoryStore()
const manifest = await manifestOf(store, 1, 'a'.repeat(32), await build(store, [[add('k', 'v')]]))
const expected = { dataset: 'shop', tag: 'v20260518-01' }

test('a manifest comes back from its bytes, and equal manifests have equal bytes whatever the order of their fields', () => {
  const bytes = encodeManifest(manifest)
  expect(decodeManifest(bytes, { ...expected, sha256: manifestHash(bytes) })).toEqual(manifest)
  const shuffled = Object.fromEntries(Object.entries(manifest).reverse()) as typeof manifest
  expect(encodeManifest(shuffled)).toEqual(bytes)
})

test('any changed byte of a manifest is CORRUPT, naming dataset and version', () => {
  const bytes = encodeManifest(manifest)
  const sha256 = manifestHash(bytes)
  for (let i = 0; i < bytes.length; i++) {
    const damaged = Buffer.from(bytes)
    damaged[i] = (damaged[i] as number) ^ 2
    expect(() => decodeManifest(damaged, { ...expected, sha256 })).toThrow(
      /manifest of v20260518-01 in shop is corrupt/,
    )
  }
  expect(() => decodeManifest(bytes.subarray(0, -1), { ...expected, sha256 })).toThrow(/is corrupt/)
})

test('bytes that are no manifest are CORRUPT also where no hash is known', () => {
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string(), fc.constant('{"format":1,"minReader":1}')), (text) => {
      expect(() => decodeManifest(Buffer.from(text), expected)).toThrow(/is corrupt/)
    }),
  )
  expect(() => decodeManifest(Buffer.from([0xff, 0xfe]), expected)).toThrow(/is corrupt/)
  const other = encodeManifest({ ...manifest, tag: 'v20260518-02' })
  expect(() => decodeManifest(other, expected)).toThrow(/expected v20260518-01 of shop, found v20260518-02 of shop/)
  const forged = encodeManifest({ ...manifest, digest: '0'.repeat(64) })
  expect(() => decodeManifest(forged, expected)).toThrow(/is corrupt: expected digest/)
})

test('a manifest for newer readers is FORMAT_TOO_NEW before anything else of it is read', () => {
  const bytes = Buffer.from(JSON.stringify({ format: 9, minReader: 9, everything: 'else is different' }))
  expect(() => decodeManifest(bytes, expected)).toThrow(
    expect.objectContaining({ code: 'FORMAT_TOO_NEW', details: expect.objectContaining({ needed: 9 }) }),
  )
})

test('the digest covers names, kinds, counts and sums, and nothing else', () => {
  const products = manifest.indexes.products as NonNullable<(typeof manifest.indexes)['products']>
  const digest = contentDigest({ products })
  expect(
    contentDigest({ products: { ...products, bits: 7, seed: 'f'.repeat(16), build: 'incremental' } as never }),
  ).toBe(digest)
  for (const other of [
    { kind: 'many' as const },
    { count: 2 },
    { sums: ['0'.repeat(16), '0'.repeat(16)] as [string, string] },
  ])
    expect(contentDigest({ products: { ...products, ...other } })).not.toBe(digest)
  expect(contentDigest({ others: products })).not.toBe(digest)
  expect(contentDigest({ b: products, a: products })).toBe(contentDigest({ a: products, b: products }))
})
