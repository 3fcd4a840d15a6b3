import type { Action } from '../../schemas/roles.ts'
import { type Db, select, transaction } from './transaction.ts'

/** What a ticket proves somebody asked for, and nothing else. */
export interface TicketFor {
  dataset: string
  action: Action
  /** What is asked for: the workflow's request, without the ticket. */
  request: object
}

/** Proof that this connection's login asked for it. Call `authorize` first, which says so where it may not. */
export async function issueTicket(db: Db, { dataset, action, request }: TicketFor): Promise<string> {
  return transaction(db, async (client) => {
    const values = [dataset, action, JSON.stringify(request)]
    const { rows } = await client.query<{ id: string }>('select snapflip.issue_ticket($1, $2, $3) as id', values)
    const [row] = rows
    if (row === undefined) throw new Error('snapflip.issue_ticket returned nothing')
    return row.id
  })
}

/** What a ticket is issued for that triggers a schedule: the run that it starts hands it to each refresh that it tries. */
export const triggering = (dataset: string): TicketFor => ({
  dataset,
  action: 'refresh',
  request: { dataset, trigger: true },
})

/** Uses up a ticket for this run. Null: it is no ticket for that, or was used before, or is a day old; then it counts as none. */
export async function useTicket(
  db: Db,
  { ticket, dataset, action, request, runId }: TicketFor & { ticket: string; runId: string },
): Promise<string | null> {
  const [row] = await select<{ actor: string | null }>(db, 'select snapflip.use_ticket($1, $2, $3, $4, $5) as actor', [
    ticket,
    dataset,
    action,
    JSON.stringify(request),
    runId,
  ])
  return row?.actor ?? null
}
