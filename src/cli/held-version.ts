import { randomUUID } from 'node:crypto'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import { tagSchema } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { own } from '../core/own.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import type { Store } from '../stores/ports.ts'
import { unknownIndex } from './reader-of.ts'
import type { Session } from './session.ts'
import { unknownVersion } from './unknown-version.ts'

const LEASE_MS = 60_000
const RENEW_MS = 15_000

export interface HeldVersion {
  store: Store
  manifest: Manifest
}

/**
 * A version's manifest straight from a store (the first one without a name), the active one's unless a tag is given, under a lease until the verb ends: what is read of it
 * cannot be deleted meanwhile. A store that may only be read gives no lease; then the version's minimum age protects it.
 *
 * @throws SnapflipError NO_ACTIVE_VERSION, UNKNOWN_VERSION, VERSION_RETIRED, CORRUPT
 */
export async function heldVersion(
  session: Session,
  dataset: string,
  tag?: string,
  name?: string,
): Promise<HeldVersion> {
  const store = await session.store(dataset, name)
  const pointer = (await store.pointer.read())?.pointer ?? null
  const wanted = tag ?? pointer?.active?.tag
  if (wanted === undefined) {
    throw new SnapflipError(
      'NO_ACTIVE_VERSION',
      `Expected an active version of ${dataset}, found none in ${store.url}. \`snapflip refresh ${dataset}\` builds the first.`,
      { dataset, store: store.url },
    )
  }
  if (!tagSchema.safeParse(wanted).success) throw unknownVersion(dataset, wanted, await store.data.listManifests())
  await lease(session, store, dataset, wanted)
  // After the lease: whichever came first, the retirement or the lease, is seen by the other.
  if ((await store.pointer.read())?.pointer.retired.includes(wanted)) {
    throw new SnapflipError(
      'VERSION_RETIRED',
      `${wanted} of ${dataset} is retired, expected a retained version; \`snapflip versions ${dataset}\` lists them.`,
      { dataset, tag: wanted },
    )
  }
  const bytes = await store.data.readManifest(wanted)
  if (bytes === null) throw unknownVersion(dataset, wanted, await store.data.listManifests())
  const sha256 = [pointer?.active, pointer?.previous].find((ref) => ref?.tag === wanted)?.manifest
  const manifest = decodeManifest(bytes, { dataset, tag: wanted, ...(sha256 === undefined ? {} : { sha256 }) })
  return { store, manifest }
}

async function lease(session: Session, store: Store, dataset: string, tag: string): Promise<void> {
  const id = randomUUID()
  let isTold = false
  const put = () =>
    store.leases.put({ id, tag, kind: 'reader', ttlMs: LEASE_MS }).catch((error: unknown) => {
      if (!isTold)
        session.note(
          `No lease on ${tag} of ${dataset}: its minimum age alone protects it. ${error instanceof Error ? error.message : error}`,
        )
      isTold = true
    })
  await put()
  const timer = setInterval(put, RENEW_MS)
  session.onClose(async () => {
    clearInterval(timer)
    await store.leases.drop(id)
  })
}

export function indexOf({ manifest }: HeldVersion, name: string): IndexManifest {
  const index = own(manifest.indexes, name)
  if (index === undefined) throw unknownIndex(manifest.dataset, manifest.tag, name, Object.keys(manifest.indexes))
  return index
}
