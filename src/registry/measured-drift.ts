import { type Db, select } from './transaction.ts'

export interface MeasuredDrift {
  dataset: string
  index: string
  compared: number
  different: number
}

/** What the drift gate found of each dataset's version that was judged last, where it could compare. By the primary key of gate_verdicts. */
export async function measuredDrift(db: Db, datasets: readonly string[]): Promise<MeasuredDrift[]> {
  return select<MeasuredDrift>(
    db,
    `select d.name as dataset, g.index, (g.actual ->> 'compared')::float8 as compared, (g.actual ->> 'different')::float8 as different
       from unnest($1::text[]) as d (name)
            cross join lateral (
              select v.tag from snapflip.index_versions v
               where v.dataset = d.name and exists (select from snapflip.gate_verdicts e where e.dataset = v.dataset and e.tag = v.tag)
               order by v.ordinal desc limit 1
            ) judged
            join snapflip.gate_verdicts g on g.dataset = d.name and g.tag = judged.tag
      where g.gate = 'drift' and g.index is not null and g.actual ? 'different'`,
    [datasets],
  )
}
