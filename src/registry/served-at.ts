import { type Share, sharesOf } from '../core/served-share.ts'
import { type ApprovalRow, approvals } from './approvals.ts'
import { decisionsOn } from './decisions-on.ts'
import { type FlipRow, readFlips } from './flips.ts'
import type { HistoryEntry } from './history-entries.ts'
import { type PolicyVersion, policyOf } from './policy-of.ts'
import { type RefreshRow, readRefreshes } from './refreshes.ts'
import {
  canaryAt,
  furtherStoresAt,
  pinAt,
  type StandingCanary,
  type StandingPin,
  type StandingStore,
} from './standing-at.ts'
import { type Db, select } from './transaction.ts'
import type { VersionRow } from './version.ts'
import { versions } from './versions.ts'

/** What the pointer named at a moment, as the registry knows it. */
export interface Served {
  /** Null: nothing was served yet. */
  version: VersionRow | null
  /** The flip or rollback that took readers there. */
  flip: FlipRow | null
  /** The one that took them away; null when they are there still. */
  next: FlipRow | null
  /**
   * A flip under way at that moment: wanted, and not yet known to be made. The store was set somewhere in between, so readers were before it or after
   * it. Null: nothing was under way.
   */
  underWay: FlipRow | null
  /** The approval by which it came to readers first; null where none is recorded. */
  approval: ApprovalRow | null
  /** Number of the policy in force when it came to readers first, where that asks for no approval; null: it asks for some, or is not known. */
  needlessBy: number | null
  /** The refresh that built the version; null where it was found in the store. */
  refresh: RefreshRow | null
  /** The refresh whose gates judged it, where that is another: the window closed on the one that built it, or a waiver let it pass. Else null. */
  judgedBy: RefreshRow | null
  /** Which share of the first store's readers was sent where; a further store that is not degraded does likewise. */
  shares: Share[]
  /** The stores beside the first. */
  stores: StandingStore[]
  canary: StandingCanary | null
  pin: StandingPin | null
  /** The definition that the version was built under. */
  policy: PolicyVersion | null
  /** What had been decided about the version by then, oldest first: approvals, waivers, what canary and bake found, quarantines. */
  decisions: HistoryEntry[]
}

/** What readers got at `at`, within their follow lag. Rollbacks and flips alike are read from their confirmed rows. */
export async function servedAt(db: Db, dataset: string, at: Date): Promise<Served> {
  const [flip = null] = await readFlips(
    db,
    `where dataset = $1 and outcome = 'confirmed' and settled_at <= $2 order by epoch desc, epoch_break_glass desc limit 1`,
    [dataset, at],
  )
  const epoch = [flip?.epoch ?? 0, flip?.breakGlass ?? 0]
  const [next = null] = await readFlips(
    db,
    `where dataset = $1 and outcome = 'confirmed' and (epoch, epoch_break_glass) > ($2, $3) order by epoch, epoch_break_glass limit 1`,
    [dataset, ...epoch],
  )
  const [underWay = null] = await readFlips(
    db,
    `where dataset = $1 and (epoch, epoch_break_glass) > ($2, $3) and intended_at <= $4 and (outcome is null or outcome = 'confirmed')
      order by epoch, epoch_break_glass limit 1`,
    [dataset, ...epoch, at],
  )
  const [version = null] = flip === null ? [] : await versions(db, dataset, { tags: [flip.to] })
  const [judged = null] =
    version?.refreshId == null ? [] : await readRefreshes(db, 'where id = $1', [version.refreshId])
  // By the primary key of builds. A version goes from refresh to refresh; what wrote it stays the same.
  const [built = judged] =
    version?.generation == null
      ? []
      : await readRefreshes(db, 'where id = (select refresh_id from snapflip.builds where generation = $1 limit 1)', [
          version.generation,
        ])
  const asked = version === null ? [] : await approvals(db, { dataset, tag: version.tag })
  const approval = asked.find(({ usedBy }) => usedBy !== null) ?? null
  const [canary, pin] = [await canaryAt(db, dataset, at), await pinAt(db, dataset, at)]
  return {
    version,
    flip,
    next,
    underWay,
    approval,
    needlessBy: version === null ? null : await needlessBy(db, version),
    refresh: built,
    judgedBy: judged?.refreshId === built?.refreshId ? null : judged,
    shares: sharesOf({ active: version?.tag ?? null, canary, pin }),
    stores: await furtherStoresAt(db, dataset, at),
    canary,
    pin,
    policy: built === null ? null : await policyOf(db, built),
    decisions: version === null ? [] : await decisionsOn(db, dataset, version.tag, at),
  }
}

/** As the flip looked it up. One that was found in the store was made under a policy that nobody knows. */
async function needlessBy(db: Db, { dataset, tag }: VersionRow): Promise<number | null> {
  const rows = await select<{ number: number; when: string }>(
    db,
    `select definitions.number, coalesce(definitions.body #>> '{approval,when}', 'never') as when
       from (
         select intended_at, detail from snapflip.flip_intents
          where dataset = $1 and to_tag = $2 and kind = 'flip' and outcome = 'confirmed' order by epoch limit 1
       ) as first
       join snapflip.definitions on definitions.dataset = $1 and applied_at <= intended_at
      where first.detail -> 'adopted' is null
      order by definitions.number desc limit 1`,
    [dataset, tag],
  )
  const [policy] = rows
  return policy?.when === 'never' ? policy.number : null
}
