import type { Pointer } from '../schemas/pointer.ts'
import type { RollbackRequest } from '../schemas/refresh.ts'
import { leftAlready } from '../src/core/left-already.ts'
import { confirmedFlips, type FlipRow } from '../src/registry/flips.ts'
import { goodBefore } from '../src/registry/good-before.ts'
import { historyEntries } from '../src/registry/history-entries.ts'
import type { Db } from '../src/registry/transaction.ts'

/**
 * Refuses a rollback whose version readers have left: the one that it names; or, of a person who asked for one without naming where to, the one
 * that a rollback has left already whose hold still stands; or, where nothing was named, whichever was active when it was asked for.
 *
 * Where the store had readers before it was repaired, and nothing flipped since, is what who asked has seen: they mean where readers are.
 *
 * @param active where readers are.
 * @param askedAt by a person; null: what takes back a flip of its own.
 * @throws SnapflipError CONFLICT
 */
export async function requireNotLeft(
  db: Db,
  { dataset, from, to }: RollbackRequest,
  { pointer, active, askedAt }: { pointer: Pointer; active: string; askedAt: string | null },
): Promise<void> {
  const [last] = await confirmedFlips(db, dataset, 1)
  const move =
    last?.to !== active
      ? null
      : { from: last.from, by: last.actor, at: (last.settledAt ?? last.intendedAt).toISOString(), reason: last.reason }
  const refusal = async (left: string) => {
    const further = pointer.previous?.tag ?? (await goodBefore(db, { dataset, from: active, pointer }))
    return leftAlready({ dataset, left, active, move, further })
  }
  if (from !== undefined && from !== active && !(await wasFound(db, dataset, from, last))) throw await refusal(from)
  if (askedAt === null || last?.to !== active || last.from === null) return
  const isBackAlready = last.kind === 'rollback' && pointer.hold !== null
  if (to === undefined && isBackAlready) throw await refusal(last.from)
  // What was intended later was made later, unless the registry had to learn of it from the store; a clock that is ahead costs asking again.
  const isAdopted = last.detail?.adopted === true
  if (from === undefined && !isAdopted && last.intendedAt.getTime() > Date.parse(askedAt))
    throw await refusal(last.from)
}

/** Whether a repair since the last flip, by whomever, found the store at this version. */
async function wasFound(db: Db, dataset: string, tag: string, last: FlipRow | undefined): Promise<boolean> {
  if (last === undefined) return false
  const since = last.settledAt ?? last.intendedAt
  const repairs = await historyEntries(db, { dataset, kind: 'alert.store_rebound', since })
  return repairs.some(({ detail }) => (detail.stored as { tag?: unknown } | null | undefined)?.tag === tag)
}
