import type { Manifest } from '../../schemas/manifest.ts'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { assertedPointer, isBehind } from '../core/asserted-pointer.ts'
import { isSnapflipError } from '../core/errors.ts'
import { knownPointer, refOf } from '../registry/known-pointer.ts'
import type { Db } from '../registry/transaction.ts'
import { versions } from '../registry/versions.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import type { Store } from '../stores/ports.ts'

/** What the next refresh builds on, and what it must mend in the store before that. */
export interface NextParent {
  manifest: Manifest | null
  /** What is wrong with the store, and what comes of it; null when nothing is. */
  lost: string | null
}

/**
 * Looks as the refresh will, but only at what names a version: whether every block of it is there is read by the refresh itself. `registry` is null
 * for a dataset that was not applied yet.
 */
export async function nextParent(registry: Db | null, store: Store, dataset: string): Promise<NextParent> {
  // The registry first: what it has confirmed was in the store before.
  const known = registry === null ? null : await knownPointer(registry, dataset)
  const stored = (await store.pointer.read())?.pointer ?? null
  const pointer = known === null ? stored : assertedPointer(stored, known)
  const active = pointer?.active ?? null
  if (pointer === null || active === null) return { manifest: null, lost: null }
  if (pointer.quarantined.includes(active.tag))
    return { manifest: null, lost: `${active.tag} is quarantined though active: the store has lost part of it` }

  const manifest = await manifestOf(store, dataset, active)
  if (manifest !== null) return { manifest, lost: await undone(store, stored, known, active.tag) }
  const lost = `${store.url} has lost ${active.tag}`
  const rows = registry === null ? [] : await versions(registry, dataset, { states: ['retained'] })
  for (const row of rows.toSorted((a, b) => b.ordinal - a.ordinal)) {
    const ref = refOf(row)
    if (ref === null || pointer.quarantined.includes(row.tag) || pointer.retired.includes(row.tag)) continue
    const older = await manifestOf(store, dataset, ref)
    if (older !== null)
      return { manifest: older, lost: `${lost}: the next refresh takes ${dataset} to ${row.tag} if that is whole` }
  }
  return { manifest: null, lost }
}

/** Null where there is none that can be read. */
async function manifestOf(store: Store, dataset: string, { tag, manifest }: VersionRef): Promise<Manifest | null> {
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) return null
  try {
    return decodeManifest(bytes, { dataset, tag, sha256: manifest })
  } catch (error) {
    if (isSnapflipError(error, 'CORRUPT')) return null
    throw error
  }
}

async function undone(
  store: Store,
  stored: Pointer | null,
  known: Pointer | null,
  tag: string,
): Promise<string | null> {
  const then = `the next refresh sets it to ${tag} if every block of that is there, and builds in full if not`
  if (known !== null && isBehind(stored, known))
    return `the pointer in ${store.url} is not where the last flip left it: ${then}`
  return (await store.pointer.isBound()) ? null : `${store.url} restarted or failed over: ${then}`
}
