import { contentDigest, decodeManifest, encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import type { Store } from '../../src/stores/ports.ts'

const BETWEEN_MS = 30

/**
 * The store with a fault: a flip moves the pointer in two steps, one index first and the others later, as a design with a pointer
 * an index would. Between the steps readers meet a version whose indexes come from two.
 */
export function twoStepPointer(store: Store, dataset: string): Store {
  let half = 0
  const manifestOf = async (tag: string, sha256: string) => {
    const bytes = await store.data.readManifest(tag)
    if (bytes === null) throw new Error(`The manifest of ${tag} is missing.`)
    return decodeManifest(bytes, { dataset, tag, sha256 })
  }
  const swap: Store['pointer']['swap'] = async (token, next) => {
    const before = (await store.pointer.read())?.pointer.active
    if (!before || !next.active || before.manifest === next.active.manifest) return store.pointer.swap(token, next)
    const [old, coming] = await Promise.all([
      manifestOf(before.tag, before.manifest),
      manifestOf(next.active.tag, next.active.manifest),
    ])
    const [first = ''] = Object.keys(coming.indexes)
    const indexes = { ...coming.indexes, [first]: old.indexes[first] as (typeof old.indexes)[string] }
    const tag = `v20260518-${900_000 + half++}`
    // Its ordinal is that of the coming version: that is what it says it is.
    const bytes = encodeManifest({ ...coming, tag, indexes, digest: contentDigest(indexes) })
    await store.data.putManifest(tag, bytes)
    const active = { ...next.active, tag, digest: contentDigest(indexes), manifest: manifestHash(bytes) }
    if (!(await store.pointer.swap(token, { ...next, active }))) return false
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS))
    return store.pointer.swap((await store.pointer.read())?.token ?? null, next)
  }
  const pointer: Store['pointer'] = {
    read: () => store.pointer.read(),
    watch: (options) => store.pointer.watch(options),
    isBound: () => store.pointer.isBound(),
    rebind: (token, next) => store.pointer.rebind(token, next),
    swap,
  }
  return { ...store, pointer }
}
