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
 * Where the first store had readers before it was repaired, and nothing flipped since, is what a person who asked after that flip has seen: they mean
 * where readers are. What takes back a flip of its own means that version alone.
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
  const isAskedSince = last !== undefined && askedAt !== null && isBefore(last, askedAt)
  if (from !== undefined && from !== active && !(isAskedSince && (await wasFound(db, dataset, from, last))))
    throw await refusal(from)
  if (askedAt === null || last?.to !== active || last.from === null) return
  const isBackAlready = last.kind === 'rollback' && pointer.hold !== null
  if (to === undefined && isBackAlready) throw await refusal(last.from)
  if (from === undefined && !isAskedSince) throw await refusal(last.from)
}

/** What was intended later was made later, unless the registry had to learn of it from the store; a clock that is ahead costs asking again. */
function isBefore({ intendedAt, detail }: FlipRow, askedAt: string): boolean {
  return detail?.adopted === true || intendedAt.getTime() <= Date.parse(askedAt)
}

/** Whether a repair since the last flip, by whomever, found the first store at this version. The entry of a further one names it. */
async function wasFound(db: Db, dataset: string, tag: string, last: FlipRow): Promise<boolean> {
  const since = last.settledAt ?? last.intendedAt
  const repairs = await historyEntries(db, { dataset, kind: 'alert.store_rebound', since })
  return repairs.some(
    ({ detail: { store, stored } }) =>
      store === undefined && (stored as { tag?: unknown } | null | undefined)?.tag === tag,
  )
}
