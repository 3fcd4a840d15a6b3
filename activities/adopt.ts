import type { Manifest } from '../schemas/manifest.ts'
import type { Pointer, VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { adoptStore } from '../src/registry/adopt-store.ts'
import { appliedStore } from '../src/registry/applied-store.ts'
import { versions } from '../src/registry/versions.ts'
import { decodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/**
 * Lets a registry that is older than the store go on from what the store has (`adoptStore`): without it, a restored database knows neither the
 * active version nor its epoch, and could neither refresh nor roll back. Reads the manifests that the registry does not know, if there are any.
 */
export async function adoptFromStore(
  deps: Pick<Deps, 'pool' | 'log'>,
  store: Store,
  dataset: string,
): Promise<string[]> {
  // The store before the registry, which knows of all that its own refreshes have put there.
  const tags = await store.data.listManifests()
  const pointer = (await store.pointer.read())?.pointer ?? null
  const named = [pointer?.active?.tag, pointer?.previous?.tag].filter((tag) => tag !== undefined)
  const present = [...new Set([...tags, ...named])]
  const rows = await versions(deps.pool, dataset, { tags: present })
  const { isNew, epochRegistry } = await appliedStore(deps.pool, dataset)
  const known = new Set(rows.filter((row) => row.manifestSha256 !== null && !isNew).map((row) => row.tag))
  const unknown = present.filter((tag) => !known.has(tag))
  if (unknown.length === 0 && !isNew && (pointer?.epoch.registry ?? 0) <= epochRegistry) return []

  const found = []
  for (const tag of unknown) found.push(await foundAs(store, dataset, tag, pointer))
  const adopted = await adoptStore(deps.pool, { dataset, store: { url: store.url, pointer, tags, found } })
  if (adopted.length > 0)
    deps.log.warn({ dataset, step: 'reconcile', adopted, store: store.url }, 'the registry is older than the store')
  return adopted
}

/** The manifest, and what names it; without one that can be read, the pointer's word for it. */
async function foundAs(
  store: Store,
  dataset: string,
  tag: string,
  pointer: Pointer | null,
): Promise<{ tag: string; ref: VersionRef | null; manifest: Manifest | null }> {
  const named = [pointer?.active, pointer?.previous].find((ref) => ref?.tag === tag) ?? null
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) return { tag, ref: named, manifest: null }
  try {
    const manifest = decodeManifest(bytes, { dataset, tag, ...(named === null ? {} : { sha256: named.manifest }) })
    const ref = { tag, ordinal: manifest.ordinal, digest: manifest.digest, manifest: manifestHash(bytes) }
    return { tag, ref, manifest }
  } catch (error) {
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    return { tag, ref: named, manifest: null }
  }
}
