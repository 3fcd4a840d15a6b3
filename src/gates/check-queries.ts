import type { ClientBase } from 'pg'
import type { GateLimits } from '../../schemas/gates.ts'
import { beginPinned } from '../changelog/session.ts'
import { SnapflipError } from '../core/errors.ts'
import { asQuery, CHANGES } from './user-sql.ts'

/**
 * Has PostgreSQL plan the query of each gate over changes that there are none of: what cannot be run is told before it is applied.
 *
 * @throws SnapflipError DEFINITION_INVALID
 */
export async function checkQueries(client: ClientBase, dataset: string, { user }: GateLimits): Promise<void> {
  for (const [name, gate] of Object.entries(user ?? {})) {
    if (gate.kind !== 'sql') continue
    await beginPinned(client, 'read committed', 'read write')
    try {
      await client.query(CHANGES)
      // Planned, not run: nothing that it calls is called.
      await client.query({ text: `explain ${asQuery(gate.sql)}`, values: [], queryMode: 'extended' } as {
        text: string
      })
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error)
      throw new SnapflipError(
        'DEFINITION_INVALID',
        `datasets.${dataset}.gates.user.${name}.sql: expected a query over changes (index, key, before, after), tables named with their schema, found: ${found}. Correct it in the definition.`,
        { dataset, gate: name },
        error,
      )
    } finally {
      await client.query('rollback')
    }
  }
}
