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

/** A store beside the dataset's first, and where its readers were. */
export interface StandingStore {
  name: string
  /** Without credentials. */
  store: string
  /** `degraded`: it could not be brought to what the first store says, and its readers stay on `tag` whatever is flipped. */
  state: 'current' | 'degraded'
  since: Date
  /** What its pointer was last known to be set to; null: nothing yet. */
  tag: string | null
  why: string | null
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
       select from snapflip.flip_intents
        where dataset = $1 and outcome = 'confirmed' and settled_at > last.since and settled_at <= $2
     )`,
    [dataset, at],
  )
  const [last] = rows
  return last?.kind === 'canary.begun' || last?.kind === 'canary.ramped'
    ? { tag: last.tag, share: last.share, since: last.since }
    : null
}

/** How the stores beside the first stood at a moment, from the history; not one that was taken out of the definition by then. */
export async function furtherStoresAt(db: Db, dataset: string, at: Date): Promise<StandingStore[]> {
  return select<StandingStore>(
    db,
    `with told as (
       select seq, at, kind, version, detail from snapflip.history
        where dataset = $1 and at <= $2 and kind in ('store.followed', 'store.degraded', 'stores.applied')
     ), last as (
       select distinct on (detail ->> 'store') seq, at, kind, detail from told
        where kind <> 'stores.applied' order by detail ->> 'store', seq desc
     )
     select detail ->> 'name' as name, detail ->> 'store' as store, at as since, detail ->> 'why' as why,
            case kind when 'store.degraded' then 'degraded' else 'current' end as state,
            (select version from told where kind = 'store.followed' and told.detail ->> 'store' = last.detail ->> 'store'
              order by seq desc limit 1) as tag
       from last
      where not exists (
        select from told
         where kind = 'stores.applied' and told.seq > last.seq and told.detail -> 'removed' ? (last.detail ->> 'name')
      )
      order by name, store`,
    [dataset, at],
  )
}

/** What an operator kept readers on at a moment; they leave it by their own clocks, or with the rollback that forbade it. */
export async function pinAt(db: Db, dataset: string, at: Date): Promise<StandingPin | null> {
  const rows = await select<StandingPin>(
    db,
    `select tag, by, reason, since, until from snapflip.pins
      where dataset = $1 and since <= $2 and until > $2 and coalesce(lifted_at, 'infinity') > $2
        and not exists (
          select from snapflip.flip_intents
           where dataset = $1 and kind = 'rollback' and from_tag = pins.tag and outcome = 'confirmed'
             and settled_at > pins.since and settled_at <= $2
        )
      order by since desc limit 1`,
    [dataset, at],
  )
  return rows[0] ?? null
}
