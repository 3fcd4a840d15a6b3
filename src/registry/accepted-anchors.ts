import type { Anchor } from '../../schemas/pointer.ts'
import type { HistoryHead } from './verify-history.ts'

/** An end of the chain as a store has it; `acceptedBy`: the entry by which a person took the history as it is, although it does not lead there. */
export type KnownHead = HistoryHead & { acceptedBy?: Anchor | undefined }

/** That a person did, as the entry says. */
export interface AcceptedAnchor extends Anchor {
  /** Number of the entry. */
  entry: number
  by: string
  at: string
  reason: string
}

/**
 * Those that a person accepted: the entry that the store names is there as it was made, and names exactly this end. What was written anew since, or
 * stands in the database alone, accepts nothing.
 */
export async function acceptedAnchors(
  client: { query: <Row>(sql: string, values: unknown[]) => Promise<{ rows: Row[] }> },
  heads: readonly KnownHead[],
): Promise<AcceptedAnchor[]> {
  const { rows } = await client.query<AcceptedAnchor & { entryHash: string }>(READ_ACCEPTED, [
    heads.flatMap(({ acceptedBy }) => acceptedBy?.seq ?? []),
  ])
  return rows
    .filter((row) =>
      heads.some(
        ({ entries, hash, acceptedBy }) =>
          row.seq === entries &&
          row.hash === hash &&
          row.entry === acceptedBy?.seq &&
          row.entryHash === acceptedBy.hash,
      ),
    )
    .map(({ seq, hash, entry, by, at, reason }) => ({ seq, hash, entry, by, at, reason }))
}

/** By primary key. */
const READ_ACCEPTED = `
  select (detail ->> 'seq')::integer as seq, detail ->> 'hash' as hash, seq::integer as entry, encode(hash, 'hex') as "entryHash",
         actor as by, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, detail ->> 'reason' as reason
    from snapflip.history
   where history.seq = any ($1::bigint[]) and kind = 'anchor.accepted'
   order by history.seq`
