import { randomUUID } from 'node:crypto'
import { v7 as uuidv7 } from 'uuid'
import type { IndexManifest, Manifest } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { copies, forgetCopies, recordCopy } from '../src/registry/copies.ts'
import { copyVersion } from '../src/snapshot/copy.ts'
import { sharesLayout } from '../src/snapshot/differences.ts'
import { decodeManifest, encodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import { verifyIndex } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { damageOf, type Looking } from './damage.ts'
import type { Deps } from './deps.ts'
import { readManifest } from './parent.ts'
import { whileLeased } from './while-leased.ts'

/** Another attempt came first: what it put is looked at, or, where that is not whole, taken away once. */
const ATTEMPTS = 2

/** A version in one store that another one shall have too. */
export interface Copying extends Looking {
  from: Store
  to: Store
  /** As it is named in the store that it is copied from. */
  ref: VersionRef
  /** What lies whole in the store that it is copied to: what the copy may share blocks with. */
  bases: readonly VersionRef[]
}

/** Whether a version's manifest is in the store, byte for byte. Its blocks are another question (`damageOf`). */
export async function stands(store: Store, { tag, manifest }: VersionRef): Promise<boolean> {
  const bytes = await store.data.readManifest(tag)
  return bytes !== null && manifestHash(bytes) === manifest
}

/**
 * Brings a version into a further store, whole and read back, and records that it is there. There already, by this or any other attempt: nothing
 * is copied.
 *
 * @throws SnapflipError CORRUPT, VERSION_RETIRED: it is not whole where it comes from; COPY_FAILED: what was written does not read back.
 */
export async function copyToFurtherStore(
  deps: Pick<Deps, 'pool' | 'log'>,
  copying: Omit<Copying, 'bases'>,
): Promise<VersionRef> {
  const { dataset, from, to, ref } = copying
  const { url } = to
  const known = await copies(deps.pool, { dataset, url })
  const there: VersionRef[] = []
  for (const copy of known.values()) {
    if (await stands(to, copy)) there.push(copy)
    else await forgetCopies(deps.pool, { dataset, url, tags: [copy.tag], why: 'its manifest is not there' })
  }
  const copy = there.find(({ tag }) => tag === ref.tag)
  if (copy !== undefined) return copy
  const { manifest, bytesWritten } = await copyBetween({ ...copying, bases: there })
  const made = { ...ref, manifest: manifestHash(encodeManifest(manifest)) }
  const { generation } = manifest
  await recordCopy(deps.pool, { dataset, url, tag: ref.tag, manifest: made.manifest, generation, from: from.url })
  deps.log.info({ dataset, version: ref.tag, step: 'stage', store: url, bytes: bytesWritten }, 'version copied')
  return made
}

/** Copies the version, unless one of its content lies there whole. Returns the manifest that it has there now. */
export async function copyBetween(copying: Copying): Promise<{ manifest: Manifest; bytesWritten: number }> {
  const { dataset, to, ref } = copying
  for (let attempt = 1; ; attempt++) {
    const bytes = await to.data.readManifest(ref.tag)
    const found = bytes === null ? null : await wholeVersion(copying, bytes)
    if (found !== null) return { manifest: found, bytesWritten: 0 }
    const copied = await copyOnce(copying)
    // What is not whole makes room now, when something is there to take its place; what another attempt has put meanwhile does not.
    if (bytes !== null && (await stands(to, { ...ref, manifest: manifestHash(bytes) })))
      await to.data.deleteManifest(ref.tag)
    try {
      await to.data.putManifest(ref.tag, encodeManifest(copied.manifest))
      return copied
    } catch (error) {
      // Only where it is known that another's manifest stands: after a lost reply ours may, and names these blocks. A sweep finds them by their age.
      if (!isSnapflipError(error, 'CONFLICT')) throw error
      // Where nothing was written, its generation is that of a version which stays.
      if (copied.bytesWritten > 0) await to.data.deleteGeneration(copied.manifest.generation)
      if (attempt === ATTEMPTS) throw error
      copying.tell(`another attempt has put ${ref.tag} of ${dataset} first`)
    }
  }
}

/** What lies there under the version's tag, if that has its content and every block is there. */
async function wholeVersion({ dataset, to, ref, tell, signal }: Copying, bytes: Uint8Array): Promise<Manifest | null> {
  const damage = await damageOf(to, { dataset, tell, signal }, { ...ref, manifest: manifestHash(bytes) })
  if (damage !== null) return null
  const manifest = decodeManifest(bytes, { dataset, tag: ref.tag })
  return manifest.digest === ref.digest ? manifest : null
}

async function copyOnce({
  dataset,
  from,
  to,
  ref,
  bases,
  tell,
  signal,
}: Copying): Promise<{ manifest: Manifest; bytesWritten: number }> {
  const by = `copy:${randomUUID()}`
  return whileLeased(from, { by, tag: ref.tag }, async () => {
    const manifest = await readManifest(from, dataset, ref)
    const base = bases.find(({ tag }) => tag === manifest.parent?.tag) ?? newest(bases)
    if (base === undefined) return copyUpon(null)
    return whileLeased(to, { by, tag: base.tag }, async () => {
      // Retired before the lease was there: it may be on its way out.
      const isLeaving = (await to.pointer.read())?.pointer.retired.includes(base.tag) === true
      return copyUpon(isLeaving ? null : { ref: base, manifest: await readManifest(to, dataset, base) })
    })

    async function copyUpon(upon: { ref: VersionRef; manifest: Manifest } | null) {
      const generation = uuidv7().replaceAll('-', '')
      const writer = await to.data.begin(generation)
      try {
        const onProgress = ({ blocksWritten }: { blocksWritten: number }) =>
          tell(`copying ${ref.tag} to ${to.url}: ${blocksWritten} blocks`)
        const copied = await copyVersion({
          from: { data: from.data, manifest },
          to: { data: to.data, writer, base: upon?.manifest ?? null },
          signal,
          onProgress,
        })
        await writer.finish()
        const isParent = upon !== null && upon.ref.tag === manifest.parent?.tag
        const parent = isParent ? { tag: upon.ref.tag, manifest: upon.ref.manifest } : null
        const { bytesWritten } = copied
        await requireReadBack(to, copied.manifest, upon?.manifest ?? null, signal)
        if (bytesWritten === 0) await to.data.deleteGeneration(generation)
        return { manifest: { ...copied.manifest, parent }, bytesWritten }
      } catch (error) {
        // What this attempt wrote is nobody's. Where the store does not answer, a sweep finds it by its age.
        await to.data.deleteGeneration(generation).catch(() => undefined)
        throw error
      }
    }
  })
}

function newest(refs: readonly VersionRef[]): VersionRef | undefined {
  return refs.toSorted((a, b) => b.ordinal - a.ordinal)[0]
}

/** What was written is read again, as a gate does of what a build has written. */
async function requireReadBack(
  store: Store,
  copy: Manifest,
  base: Manifest | null,
  signal: AbortSignal,
): Promise<void> {
  const { dataset, tag } = copy
  for (const [name, index] of Object.entries(copy.indexes)) {
    const former: IndexManifest | undefined = base?.indexes[name]
    const since = former !== undefined && sharesLayout(index, former) ? { since: former } : {}
    const { problems } = await verifyIndex(store.data, { dataset, index: name, tag }, index, { signal, ...since })
    const [problem] = problems
    if (problem === undefined) continue
    throw new SnapflipError(
      'COPY_FAILED',
      `Expected ${tag} of ${dataset} in ${store.url} as it was copied there, found: ${problem.message}`,
      { dataset, tag, store: store.url },
    )
  }
}
