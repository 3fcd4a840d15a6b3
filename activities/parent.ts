import type { Manifest } from '../schemas/manifest.ts'
import type { Epoch, Pointer, VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { compareEpoch, formatEpoch, NO_EPOCH } from '../src/core/pointer.ts'
import { decodeManifest } from '../src/snapshot/manifest.ts'
import type { Store } from '../src/stores/ports.ts'
import { whileLeased } from './while-leased.ts'

/** The manifest a reference names, checked against it. Throws VERSION_RETIRED when the store has none. */
export async function readManifest(
  store: Store,
  dataset: string,
  ref: { tag: string; manifest: string },
): Promise<Manifest> {
  const bytes = await store.data.readManifest(ref.tag)
  if (bytes === null) {
    throw new SnapflipError(
      'VERSION_RETIRED',
      `Expected the manifest of ${ref.tag} of ${dataset} in ${store.url}, found none. \`snapflip versions ${dataset}\` lists what there is.`,
      { dataset, tag: ref.tag, store: store.url },
    )
  }
  return decodeManifest(bytes, { dataset, tag: ref.tag, sha256: ref.manifest })
}

/** The manifest of the version that this one was built upon; null when it has none, or none any more. */
export async function parentOf(store: Store, { dataset, parent }: Manifest): Promise<Manifest | null> {
  const bytes = parent === null ? null : await store.data.readManifest(parent.tag)
  return parent === null || bytes === null
    ? null
    : decodeManifest(bytes, { dataset, tag: parent.tag, sha256: parent.manifest })
}

/** The version a build goes on from. */
export interface Parent {
  ref: VersionRef
  manifest: Manifest
  /** Of the pointer. */
  freshAsOfAt: string | null
}

/** The pointer's active version and epoch when the refresh was planned: what its flip expects to find still. */
export interface FlipFrom {
  tag: string | null
  epoch: Epoch
}

/**
 * The version that was active when the refresh was planned, if it may be built upon, leased for as long as `work` runs: the lease is written
 * first, then the pointer is read, so that either we see that the version was retired or the retirement sees our lease. A build in full does
 * without one that cannot be read.
 */
export async function withParent<T>(
  store: Store,
  { dataset, refreshId, from, inFull }: { dataset: string; refreshId: string; from: FlipFrom; inFull: boolean },
  work: (parent: Parent | null) => Promise<T>,
): Promise<T> {
  const { tag } = from
  if (tag === null) return work(null)
  return whileLeased(store, { by: refreshId, tag }, async () => {
    const pointer = (await store.pointer.read())?.pointer ?? null
    const active = requireStillActive(pointer, dataset, { ...from, tag })
    // Quarantined while active: the store has lost part of it, so readers have nothing better, but a build has its source.
    if (pointer?.quarantined.includes(tag)) return await work(null)
    const manifest = await readManifest(store, dataset, active).catch((error: unknown) => {
      const lost = isSnapflipError(error, 'CORRUPT') || isSnapflipError(error, 'VERSION_RETIRED')
      if (inFull && lost) return null
      throw error
    })
    const freshAsOfAt = pointer?.freshAsOf?.at ?? null
    return await work(manifest === null ? null : { ref: active, manifest, freshAsOfAt })
  })
}

/** Throws CONFLICT when another flip or rollback came since the refresh was planned. */
export function requireStillActive(
  pointer: Pointer | null,
  dataset: string,
  from: FlipFrom & { tag: string },
): VersionRef
export function requireStillActive(pointer: Pointer | null, dataset: string, from: FlipFrom): VersionRef | null
export function requireStillActive(pointer: Pointer | null, dataset: string, from: FlipFrom): VersionRef | null {
  const epoch = pointer?.epoch ?? NO_EPOCH
  const active = pointer?.active ?? null
  if ((active?.tag ?? null) === from.tag && compareEpoch(epoch, from.epoch) === 0) return active
  throw new SnapflipError(
    'CONFLICT',
    `Pointer of ${dataset} is at ${active?.tag ?? 'no version'} (epoch ${formatEpoch(epoch)}), expected ${from.tag ?? 'no version'} (epoch ${formatEpoch(from.epoch)}), where this refresh began. Another flip came first; see \`snapflip status ${dataset}\`.`,
    { dataset, active: active?.tag ?? null, expected: from.tag },
  )
}
