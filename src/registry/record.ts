import type pg from 'pg'
import type { HistoryKind } from '../core/history-kinds.ts'
import { type Db, transaction } from './transaction.ts'

export interface HistoryEvent {
  /** Null: about no dataset in particular. */
  dataset: string | null
  /** Who, verified by the caller (`temporal:<identity>`); null: the database's session_user. */
  actor: string | null
  /** What happened. */
  kind: HistoryKind
  /** Tag of the version it is about. */
  version?: string | null
  /** Ids, counts and reasons; never row contents. */
  detail?: object
}

/**
 * Appends the history entry of a state change, in its transaction and as its last statement: the chain's head stays
 * locked until the end.
 *
 * @returns the entry's number.
 */
export async function record(client: pg.ClientBase, event: HistoryEvent): Promise<number> {
  const { rows } = await client.query<{ seq: string }>('select snapflip.record($1, $2, $3, $4, $5) as seq', [
    event.dataset,
    event.actor,
    event.kind,
    event.version ?? null,
    JSON.stringify(event.detail ?? {}),
  ])
  return Number(rows[0]?.seq)
}

/** An entry for what is only history: a failure, a compensation, an alert. */
export async function recordEvent(db: Db, event: HistoryEvent): Promise<number> {
  return transaction(db, (client) => record(client, event))
}
