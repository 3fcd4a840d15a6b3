import type { BreakGlassEntry, Pointer, VersionRef } from '../schemas/pointer.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { breakGlassActor } from '../src/core/flip.ts'
import { leftAlready } from '../src/core/left-already.ts'
import type { BreakGlassChange } from '../src/core/pointer.ts'
import { decodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import type { Store } from '../src/stores/ports.ts'
import { showVersion } from '../src/stores/show-version.ts'
import { damageOf, type Looking } from './damage.ts'

export interface BreakGlassRequest extends Looking {
  flipId: string
  /** Flips of the caller that may have been made before PostgreSQL went away: where one is in the pointer, it is the rollback. */
  madeAs?: string
  /** Refused when readers are on another. Without it: whichever they are on. */
  from?: string
  /** May be newer. Without it: the rollback target; where that is gone, the newest before it that readers were on and that is there. */
  to: string | null
  by: string
  reason: string
  at: string
}

/**
 * A rollback that asks nobody but the store, for when PostgreSQL is down: hold, quarantine and history entry are set with the pointer, in the same
 * step, and the registry takes them over before its next flip. Goes only where readers were before, as the pointer remembers: without the registry
 * nobody knows whether any other version passed its gates. A Redis that restarted or failed over is bound anew, once every block of the
 * target has been read.
 *
 * @returns the entry as the pointer has it; null when the flip `madeAs` was found made.
 */
export async function breakGlass(store: Store, asked: BreakGlassRequest): Promise<BreakGlassEntry | null> {
  const { dataset, flipId, madeAs, by, reason, at } = asked
  const { pointer } = await showVersion(
    store,
    dataset,
    async (pointer, isBound): Promise<BreakGlassChange> => {
      const { active, epoch } = pointer
      if (active === null) throw nothingActive(dataset, store)
      const earlier = pointer.flips.find((flip) => flip.flipId === madeAs || flip.flipId === flipId)
      const { ref, freshAsOf } =
        earlier === undefined
          ? await targetOf(store, pointer, active, asked, isBound)
          : { ref: active, freshAsOf: pointer.freshAsOf }
      return {
        kind: 'breakGlass',
        flipId: earlier?.flipId ?? flipId,
        expected: { tag: active.tag, epoch },
        to: ref,
        freshAsOf,
        by,
        reason,
        at,
        rebound: !isBound,
      }
    },
    { mayRebind: true },
  )
  return pointer.breakGlass.find((entry) => entry.flipId === flipId) ?? null
}

async function targetOf(
  store: Store,
  pointer: Pointer,
  active: VersionRef,
  asked: BreakGlassRequest,
  isBound: boolean,
): Promise<{ ref: VersionRef; freshAsOf: Pointer['freshAsOf'] }> {
  const { dataset, to } = asked
  const remembered = [...new Set([pointer.previous?.tag, ...pointer.flips.map(({ tag }) => tag)])].filter(
    (tag): tag is string => tag !== undefined && tag !== active.tag,
  )
  const free = remembered.filter((tag) => !pointer.quarantined.includes(tag) && !pointer.retired.includes(tag))
  await requireThere(store, pointer, active, asked, free)
  if (to !== null && !remembered.includes(to)) throw neverActive(dataset, to, remembered)
  const found: string[] = []
  // One that is quarantined or retired is refused by name, with what is wrong with it.
  for (const tag of to === null ? free : [to]) {
    const bytes = await store.data.readManifest(tag)
    if (bytes === null) {
      found.push(`${tag} is gone`)
      continue
    }
    const sha256 = pointer.previous?.tag === tag ? { sha256: pointer.previous.manifest } : {}
    const manifest = decodeManifest(bytes, { dataset, tag, ...sha256 })
    const ref = { tag, ordinal: manifest.ordinal, digest: manifest.digest, manifest: manifestHash(bytes) }
    // Forward again is where readers were taken from, by a rollback or for the moment of a drill: by its name alone. What `flip` asks is away.
    if (to === null && ref.ordinal > active.ordinal) continue
    const damage = isBound ? null : await damageOf(store, asked, ref)
    const { snapshot, at } = manifest.watermark
    if (damage === null) return { ref, freshAsOf: { snapshot, at } }
    found.push(`${tag} is not whole (${damage})`)
  }
  throw new SnapflipError(
    'UNKNOWN_VERSION',
    `Expected a version of ${dataset} in ${store.url} that readers were on before ${active.tag}, found none that can be gone back to${found.length === 0 ? '' : `: ${found.join('; ')}`}. ` +
      `See \`snapflip status ${dataset}\`; name one with --to.`,
    { dataset, from: active.tag, remembered },
  )
}

/**
 * As `requireNotLeft`, by what the pointer tells: a version left by a rollback is quarantined, newer, and was active before.
 *
 * @throws SnapflipError CONFLICT
 */
async function requireThere(
  store: Store,
  pointer: Pointer,
  { tag: active, ordinal }: VersionRef,
  { dataset, from, to }: BreakGlassRequest,
  free: readonly string[],
): Promise<void> {
  const { hold, quarantined, flips, breakGlass, flipId } = pointer
  const left = flips[1]?.tag ?? null
  const isForbidden = left !== null && quarantined.includes(left)
  const isBackAlready = hold !== null && isForbidden && (await ordinalOf(store, dataset, left)) > ordinal
  const [last] = breakGlass
  const by = last?.flipId === flipId ? { ...last, by: breakGlassActor(last.by) } : isBackAlready ? hold : null
  const move = by && { from: left, by: by.by, at: by.at, reason: by.reason }
  const refusal = (left: string) => leftAlready({ dataset, left, active, move, further: free[0] ?? null })
  if (from !== undefined && from !== active) throw refusal(from)
  if (to === null && isBackAlready) throw refusal(left)
}

/** One whose manifest is gone or damaged is taken for newer: nobody goes two versions back for that. */
async function ordinalOf(store: Store, dataset: string, tag: string): Promise<number> {
  try {
    return decodeManifest((await store.data.readManifest(tag)) ?? Buffer.of(), { dataset, tag }).ordinal
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

function neverActive(dataset: string, tag: string, remembered: readonly string[]): SnapflipError {
  return new SnapflipError(
    'UNKNOWN_VERSION',
    `Expected a version of ${dataset} that readers were on before (the pointer remembers ${remembered.join(', ') || 'none'}), found ${tag}. ` +
      'Without PostgreSQL nobody can tell whether another one passed its gates.',
    { dataset, tag, remembered },
  )
}

function nothingActive(dataset: string, store: Store): SnapflipError {
  return new SnapflipError(
    'NO_ACTIVE_VERSION',
    `Expected an active version of ${dataset} in ${store.url} to go back from, found none. See \`snapflip status ${dataset}\`.`,
    { dataset, store: store.url },
  )
}
