import {
  BREAK_GLASS_MAX,
  type BreakGlassEntry,
  type Pointer,
  RECENT_FLIPS_MAX,
  type VersionRef,
} from '../../schemas/pointer.ts'
import { laterAnchor, withContradicted } from './anchor.ts'
import { fenced } from './fenced.ts'
import { forbidding } from './forbidden.ts'
import {
  already,
  applied,
  type BreakGlassChange,
  type ChangeOutcome,
  type FlipChange,
  refused,
} from './pointer-change.ts'

/** Moves the pointer. Whoever knew the state before, by version or by epoch, can change nothing afterwards. */
export function flip(now: Pointer, change: FlipChange): ChangeOutcome {
  return move(now, change, false)
}

/** Who made it is known as far as the machine it was made on knew: nobody asked PostgreSQL. */
export const breakGlassActor = (by: string) => `break-glass:${by}`

/** What a break-glass rollback adds to a flip: it raises only the epoch's second part, and leaves its entry for the registry. */
export function breakGlass(now: Pointer, change: BreakGlassChange): ChangeOutcome {
  const { flipId, expected, to, by, reason, at, rebound } = change
  const made = now.breakGlass.some((entry) => entry.flipId === flipId)
  if (made) return already(now)
  if (now.breakGlass.length >= BREAK_GLASS_MAX) {
    return refused(
      'UNABSORBED',
      `Pointer of ${now.dataset} holds ${now.breakGlass.length} break-glass rollbacks that the registry has not absorbed, the most it can. ` +
        `Bring PostgreSQL back, then \`snapflip rollback ${now.dataset}\`.`,
      { dataset: now.dataset, flipId },
    )
  }
  const epoch = { registry: expected.epoch.registry, breakGlass: nextCount(change) }
  const moved = move(
    now,
    {
      kind: 'flip',
      flipId,
      expected,
      to,
      epoch,
      freshAsOf: change.freshAsOf,
      also: { hold: { by: breakGlassActor(by), reason, at }, quarantine: [expected.tag] },
      allowHold: true,
    },
    true,
  )
  if (moved.outcome !== 'applied') return moved
  const entry: BreakGlassEntry = { flipId, epoch, from: expected.tag, to: to.tag, by, reason, at, rebound }
  return applied({ ...moved.pointer, breakGlass: [entry, ...now.breakGlass] })
}

/**
 * At least one more, and at least the seconds since 1970: where an acknowledged break-glass rollback is undone by a failover, the next one
 * counts from the same number and would get the epoch that readers have seen with another version.
 */
function nextCount({ expected, at }: BreakGlassChange): number {
  return Math.max(expected.epoch.breakGlass + 1, Math.floor(Date.parse(at) / 1000))
}

function move(now: Pointer, change: FlipChange, withoutRegistry: boolean): ChangeOutcome {
  const { flipId, to, also, allowHold = false } = change
  if (now.flips.some((made) => made.flipId === flipId)) return already(now)
  const quarantined = [...new Set([...now.quarantined, ...(also?.quarantine ?? [])])]
  const refusal = fenced(now, { ...change, allowHold, withoutRegistry }, quarantined, { flipId })
  if (refusal !== null) return refusal
  const moved: Pointer = {
    ...now,
    active: to,
    previous: rollbackTarget(now, to, quarantined),
    epoch: change.epoch,
    flipId,
    flips: [{ flipId, tag: to.tag }, ...now.flips].slice(0, RECENT_FLIPS_MAX),
    hold: also?.hold ?? now.hold,
    freshAsOf: change.freshAsOf,
    candidate: null,
    bake: change.bakeUntil === undefined ? null : { flipId, until: change.bakeUntil },
    ttl: change.ttl === undefined ? now.ttl : change.ttl,
    anchor: laterAnchor(now.anchor, change.anchor ?? null),
    contradicted: withContradicted(now.contradicted, change.contradicted === undefined ? [] : [change.contradicted]),
  }
  return applied(forbidding(moved, { quarantined, retired: now.retired }))
}

/**
 * Where a rollback without a name goes after this flip: to the version that is left, unless that one is newer (a drill's flip away: a rollback
 * during it leads to nothing newer), quarantined or was still baking; then to the target before, if that is older than the new active version. After v1→v2→v1 it is neither v2 (quarantined) nor v1 itself; after
 * v1→v2→v3→v1 it is not v2, which the rollback passed over. Where there is no other, the one that was still baking: it passed its gates,
 * and without a target the next rollback would need a build.
 */
function rollbackTarget(now: Pointer, to: VersionRef, quarantined: readonly string[]): VersionRef | null {
  const mayReturn = (version: VersionRef | null): version is VersionRef =>
    version !== null &&
    version.ordinal < to.ordinal &&
    !quarantined.includes(version.tag) &&
    !now.retired.includes(version.tag)
  const left = mayReturn(now.active) ? now.active : null
  const before = mayReturn(now.previous) ? now.previous : null
  return now.bake === null ? (left ?? before) : (before ?? left)
}
