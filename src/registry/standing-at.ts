import { type Db, select } from './transaction.ts'

/** A canary as it stood at a moment. */
export interface StandingCanary {
  tag: string
  /** Null: no reader was asked, the candidate was only probed. */
  share: number | null
  /** Since when it has this share. */
  since: Date
}

/** A pin as it stood at a moment. */
export interface StandingPin {
  tag: string
  by: string
  reason: string
  since: Date
  until: Date
}

/**
 * The canary that ran at a moment, from the history: begun, and by then neither ended nor refused nor overtaken by a flip. Flips count from when readers
 * were there: the history hears of a break-glass rollback hours later.
 */
export async function canaryAt(db: Db, dataset: string, at: Date): Promise<StandingCanary | null> {
  const rows = await select<StandingCanary & { kind: string }>(
    db,
    `select * from (
       select kind, version as tag, at as since,
              (case kind when 'canary.begun' then detail ->> 'share' when 'canary.ramped' then detail ->> 'to' end)::float8 as share
         from snapflip.history
        where dataset = $1 and at <= $2 and kind in ('canary.begun', 'canary.ramped', 'canary.ended', 'canary.refused')
        order by seq desc limit 1
     ) as last
     where not exists (
       select from snapflip.flips
        where dataset = $1 and outcome = 'confirmed' and settled_at > last.since and settled_at <= $2
     )`,
    [dataset, at],
  )
  const [last] = rows
  return last?.kind === 'canary.begun' || last?.kind === 'canary.ramped'
    ? { tag: last.tag, share: last.share, since: last.since }
    : null
}

/** What an operator kept readers on at a moment; they leave it by their own clocks, or with the rollback that forbade it. */
export async function pinAt(db: Db, dataset: string, at: Date): Promise<StandingPin | null> {
  const rows = await select<StandingPin>(
    db,
    `select tag, by, reason, since, until from snapflip.pins
      where dataset = $1 and since <= $2 and until > $2 and coalesce(lifted_at, 'infinity') > $2
        and not exists (
          select from snapflip.flips
           where dataset = $1 and kind = 'rollback' and from_tag = pins.tag and outcome = 'confirmed'
             and settled_at > pins.since and settled_at <= $2
        )
      order by since desc limit 1`,
    [dataset, at],
  )
  return rows[0] ?? null
}
