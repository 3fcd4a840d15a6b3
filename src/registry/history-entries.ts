import { type Db, select } from './transaction.ts'

/** As it stands in the chain. */
export interface HistoryEntry {
  seq: number
  at: Date
  dataset: string | null
  actor: string
  kind: string
  version: string | null
  detail: Record<string, unknown>
  /** SHA-256, hex: 64 digits. */
  hash: string
}

/** What is not given is not asked for. */
export interface HistoryFilter {
  dataset?: string | undefined
  /** Exactly this kind, or all below it: `flip` finds `flip.intended` and `flip.confirmed`. */
  kind?: string | undefined
  actor?: string | undefined
  version?: string | undefined
  /** From `since` on, before `until`. */
  since?: Date | undefined
  until?: Date | undefined
  limit?: number
}

/** Entries, newest first. */
export async function historyEntries(db: Db, filter: HistoryFilter = {}): Promise<HistoryEntry[]> {
  const { dataset = null, kind = null, actor = null, version = null, since = null, until = null, limit = 100 } = filter
  const rows = await select<Omit<HistoryEntry, 'seq'> & { seq: string }>(
    db,
    `select seq, at, dataset, actor, kind, version, detail, encode(hash, 'hex') as hash
       from snapflip.history
      where ($1::text is null or dataset = $1)
        and ($2::text is null or kind = $2 or starts_with(kind, $2 || '.'))
        and ($3::text is null or version = $3)
        and ($4::timestamptz is null or at >= $4)
        and ($5::timestamptz is null or at < $5)
        and ($6::text is null or actor = $6)
      order by seq desc
      limit $7`,
    [dataset, kind, version, since, until, actor, limit],
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
}
