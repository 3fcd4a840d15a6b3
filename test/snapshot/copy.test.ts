import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Manifest } from '../../schemas/manifest.ts'
import { copyVersion } from '../../src/snapshot/copy.ts'
import { verifyVersion } from '../../src/snapshot/verify.ts'
import { add, contents, never, type Op } from './build.ts'
import { MemoryStore } from './memory-store.ts'
import { buildVersion } from './versions.ts'

const rows: Op[] = Array.from({ length: 20_000 }, (_, i) => add(`key ${i}`, `value ${i}`))
const other: Op[] = Array.from({ length: 500 }, (_, i) => add(`key ${i}`, `other ${i}`))
const changes: Op[] = [3, 700, 4000].flatMap((n) => [
  { op: -1, key: `key ${n}`, value: `value ${n}` },
  { op: 1, key: `key ${n}`, value: `other ${n}` },
])
const bits = 11

async function copyTo(to: MemoryStore, from: MemoryStore, manifest: Manifest, base: Manifest | null = null) {
  const writer = await to.begin(randomBytes(16).toString('hex'))
  const copied = await copyVersion({ from: { data: from, manifest }, to: { data: to, writer, base }, signal: never })
  await writer.finish()
  return copied
}

async function expectSame(from: MemoryStore, version: Manifest, to: MemoryStore, copy: Manifest) {
  expect((await verifyVersion(to, copy, { signal: never })).problems).toEqual([])
  expect(copy.digest).toBe(version.digest)
  for (const [name, index] of Object.entries(version.indexes))
    expect(await contents(to, copy.indexes[name] as typeof index)).toEqual(await contents(from, index))
}

describe.each([
  ['keys', 'packs'],
  ['packs', 'keys'],
] as const)('from %s to %s', (here, there) => {
  test('a copy holds what the version holds, and a second one writes only what differs', async () => {
    const [from, to] = [new MemoryStore(here), new MemoryStore(there)]
    const first = await buildVersion(from, 1, { products: rows, tags: other }, { bits })
    const { manifest: base } = await copyTo(to, from, first)
    await expectSame(from, first, to, base)

    const second = await buildVersion(from, 2, { products: changes, tags: [] }, { parent: first, bits })
    from.reads = []
    const { manifest: copy, blocksWritten } = await copyTo(to, from, second, base)
    expect(blocksWritten).toBe(3)
    // Blocks, the pages of both trees that lead to them, and the nodes above.
    expect(from.reads.length).toBeLessThanOrEqual(3 + 2 * 3 + 4)
    await expectSame(from, second, to, copy)
  })
})

test('what is copied upon the same content writes nothing', async () => {
  const [from, to] = [new MemoryStore(), new MemoryStore('packs')]
  const first = await buildVersion(from, 1, { products: rows }, { bits })
  const { manifest: base } = await copyTo(to, from, first)
  const { manifest, bytesWritten } = await copyTo(to, from, { ...first, tag: 'v20260518-02', ordinal: 2 }, base)
  expect(bytesWritten).toBe(0)
  expect(manifest.generation).toBe(base.generation)
  await expectSame(from, first, to, manifest)
})

test('an index that lost its rows, came anew or has another layout is copied as it is', async () => {
  const [from, to] = [new MemoryStore(), new MemoryStore('packs')]
  const first = await buildVersion(from, 1, { products: rows, tags: other }, { bits })
  const { manifest: base } = await copyTo(to, from, first)
  const second = await buildVersion(from, 2, { products: other, fresh: rows }, { bits: 5 })
  const { manifest } = await copyTo(to, from, second, base)
  await expectSame(from, second, to, manifest)
})

test('packs that hold little are moved together in the store that is copied to', async () => {
  const [from, to] = [new MemoryStore(), new MemoryStore('packs')]
  let version = await buildVersion(from, 1, { products: rows }, { bits })
  let { manifest: base } = await copyTo(to, from, version)
  for (let n = 2; n < 75; n++) {
    const change = [
      { op: -1, key: `key ${n}`, value: `value ${n}` } as const,
      { op: 1, key: `key ${n}`, value: 'other' } as const,
    ]
    version = await buildVersion(from, n, { products: change }, { parent: version, bits })
    base = (await copyTo(to, from, version, base)).manifest
  }
  expect(base.sources.length).toBeLessThanOrEqual(65)
  await expectSame(from, version, to, base)
})

test('a block that is not what its page says is not copied', async () => {
  const [from, to] = [new MemoryStore(), new MemoryStore('packs')]
  const version = await buildVersion(from, 1, { products: rows }, { bits })
  const [name] = [...from.objects.keys()] as [string]
  const block = from.objects.get(name) as Uint8Array
  from.objects.set(name, Buffer.alloc(block.length, 7))
  await expect(copyTo(to, from, version)).rejects.toMatchObject({ code: 'CORRUPT' })
  from.objects.delete(name)
  await expect(copyTo(to, from, version)).rejects.toMatchObject({ code: 'CORRUPT' })
})
