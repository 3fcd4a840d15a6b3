import type { Pool } from 'pg'
import { leavesOf } from './facts.ts'
import { literal } from './projection.ts'
import type { Source } from './source.ts'
import { tablesOf } from './source.ts'
import { relids } from './window.ts'

/**
 * Whether there are committed changes that a snapshot did not see. A look at the present, not a window: what it finds is a reason to build. As
 * cheap as two look-ups in the index on xid: what the statement itself sees is committed.
 *
 * @param since pg_snapshot as text; null: everything is new.
 * @returns the snapshot in which there are; null: there are none.
 */
export async function newRows(pool: Pool, sources: readonly Source[], since: string | null): Promise<string | null> {
  const parts: string[] = []
  if (since !== null) {
    const [, max = '', open = ''] = since.split(':')
    const exists = (relation: 'changelog' | 'events', condition: string) => [
      `exists (select from snapflip.${relation} where xid >= ${literal(max)}::xid8 and ${condition})`,
      ...(open === ''
        ? []
        : [
            `exists (select from snapflip.${relation} where xid = any (${literal(`{${open}}`)}::xid8[]) and ${condition})`,
          ]),
    ]
    const leaves = tablesOf(sources).flatMap((table) => leavesOf(table).map((leaf) => leaf.relid))
    if (leaves.length > 0) parts.push(...exists('changelog', `relid = any (${relids(leaves)})`))
    for (const source of sources)
      if (source.kind === 'events')
        parts.push(...exists('events', `dataset = ${literal(source.dataset)} and index = ${literal(source.index)}`))
  }
  const { rows } = await pool.query<{ snapshot: string; found: boolean }>(
    `select pg_current_snapshot()::text as snapshot, ${since === null ? 'true' : parts.join(' or ') || 'false'} as found`,
  )
  return rows[0]?.found ? rows[0].snapshot : null
}
