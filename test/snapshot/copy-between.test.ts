import { expect, test } from 'vitest'
import { copyBetween } from '../../activities/copy-version.ts'
import type { Manifest } from '../../schemas/manifest.ts'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import type { Store } from '../../src/stores/ports.ts'
import { add, never, type Op } from './build.ts'
import { MemoryStore } from './memory-store.ts'
import { buildVersion } from './versions.ts'

const rows: Op[] = Array.from({ length: 5000 }, (_, i) => add(`key ${i}`, `value ${i}`))
const change: Op[] = [
  { op: -1, key: 'key 7', value: 'value 7' },
  { op: 1, key: 'key 7', value: 'other' },
]

function storeOf(data: MemoryStore, pointer: Partial<Pointer> = {}): Store {
  return {
    url: 'memory',
    data,
    leases: { put: async () => undefined, drop: async () => undefined },
    pointer: { read: async () => ({ pointer: { ...emptyPointer('shop'), ...pointer }, token: '1' }) },
  } as unknown as Store
}

const refOf = (manifest: Manifest): VersionRef => ({
  tag: manifest.tag,
  ordinal: manifest.ordinal,
  digest: manifest.digest,
  manifest: manifestHash(encodeManifest(manifest)),
})

async function twoVersions() {
  const from = new MemoryStore()
  const first = await buildVersion(from, 1, { products: rows }, { bits: 9 })
  const parent = { tag: first.tag, manifest: refOf(first).manifest }
  const second = { ...(await buildVersion(from, 2, { products: change }, { parent: first, bits: 9 })), parent }
  for (const manifest of [first, second]) await from.putManifest(manifest.tag, encodeManifest(manifest))
  return { from, first, second }
}

const common = { dataset: 'shop', tell: () => undefined, signal: never }

test('a copy shares blocks with its parent there, unless that is being retired', async () => {
  const { from, first, second } = await twoVersions()
  for (const retired of [[], [first.tag]]) {
    const data = new MemoryStore('packs')
    const to = storeOf(data, { retired })
    const base = await copyBetween({ ...common, from: storeOf(from), to, ref: refOf(first), bases: [] })
    const bases = [refOf(base.manifest)]
    const { manifest, bytesWritten } = await copyBetween({
      ...common,
      from: storeOf(from),
      to,
      ref: refOf(second),
      bases,
    })
    expect(bytesWritten / base.bytesWritten > 0.9).toBe(retired.length > 0)
    expect(manifest.parent).toEqual(retired.length > 0 ? null : { tag: first.tag, manifest: bases[0]?.manifest })
  }
})

test('what lies there whole is taken as it is; what is not whole, or of other content, is replaced', async () => {
  const { from, first, second } = await twoVersions()
  const data = new MemoryStore('packs')
  const copying = { ...common, from: storeOf(from), to: storeOf(data), ref: refOf(first), bases: [] }
  const { manifest } = await copyBetween(copying)
  expect(await copyBetween(copying)).toMatchObject({ manifest, bytesWritten: 0 })

  data.objects.delete([...data.objects.keys()][3] as string)
  expect((await copyBetween(copying)).manifest.generation).not.toBe(manifest.generation)
  // Sealed anew after an attempt that died.
  await data.putManifest(second.tag, encodeManifest({ ...manifest, tag: second.tag, ordinal: 2 }))
  const other = await copyBetween({ ...copying, ref: refOf(second) })
  expect(other.manifest.digest).toBe(second.digest)
  expect(manifestHash((await data.readManifest(second.tag)) as Uint8Array)).toBe(refOf(other.manifest).manifest)
})

test('a manifest whose put was not answered keeps its blocks: the next attempt finds the copy whole', async () => {
  const { from, first } = await twoVersions()
  const data = new MemoryStore()
  const to = storeOf(data)
  const put = data.putManifest.bind(data)
  data.putManifest = async (tag, bytes) => {
    await put(tag, bytes)
    throw new SnapflipError('STORE_UNREACHABLE', 'the reply was lost')
  }
  const copying = { ...common, from: storeOf(from), to, ref: refOf(first), bases: [] }
  await expect(copyBetween(copying)).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  expect(await copyBetween(copying)).toMatchObject({ bytesWritten: 0 })
})
