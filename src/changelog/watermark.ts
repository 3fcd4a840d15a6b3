import { randomBytes, randomUUID } from 'node:crypto'
import type { ClientBase } from 'pg'
import type { Watermark } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import { captureFault, type TableFacts } from './facts.ts'
import { translate } from './failure.ts'
import { beginLineage } from './lineage.ts'
import { expectNotRefreshed } from './materialized-views.ts'
import { beginPinned } from './session.ts'
import { capturedTables, expectAsResolved, lockNames, type Source, tablesOf } from './source.ts'

/** `version`: what a version is cut at. `chunk`: what one range of a full build in several transactions was read at. */
export type WatermarkKind = 'version' | 'chunk'

/**
 * Begins a repeatable-read transaction whose first statement stores its own snapshot. The caller reads on in the same transaction (see
 * `scanSource`) and then commits: only after that commit does the watermark count. The tables are locked against DDL and TRUNCATE *before*
 * the snapshot is taken, because neither is MVCC-safe: a table truncated or rewritten in between would look empty. So is snapflip.watermarks,
 * against a lineage that begins in between. The first watermark after a restore into another cluster clears away what that brought along.
 *
 * Throws POSTGRES_UNSUPPORTED on a standby, whose snapshots hide open transactions; SOURCE_CHANGED when a table is no longer the one that
 * `resolveSource` saw; NOT_APPLIED when a captured table has no working capture, since no later window could start here.
 */
export async function takeWatermark(
  client: ClientBase,
  sources: readonly Source[],
  kind: WatermarkKind = 'version',
): Promise<Watermark> {
  const [id, nonce] = [randomUUID(), randomBytes(16)]
  try {
    await beginLineage(client)
    await beginPinned(client, 'repeatable read', 'read write', lockNames(sources))
    await client.query('lock table snapflip.watermarks in row exclusive mode')
    const { rows } = await client.query<{ snapshot: string; system: string; at: string; facts: TableFacts[] }>(
      // The snapshot is taken when the statement begins and the xid assigned while it runs, so xid >= xmax; the table's CHECK holds it to that.
      `insert into snapflip.watermarks (id, snapshot, xid, nonce, system, at, kind, facts)
       select $1, pg_current_snapshot(), pg_current_xact_id(), $2, snapflip.system(), clock_timestamp(), $3, snapflip.facts($4::oid[])
       returning snapshot::text, system, to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, facts`,
      [id, nonce, kind, tablesOf(sources).map((table) => table.relid)],
    )
    const row = rows[0]
    if (row === undefined) throw new SnapflipError('INTERNAL', 'Expected the new watermark, found no row.')
    expectAsResolved(sources, row.facts)
    expectCapture(sources, row.facts)
    return { id, snapshot: row.snapshot, nonce: nonce.toString('hex'), system: row.system, at: row.at }
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    throw translate(error, 'Taking a watermark', 'SOURCE_CHANGED')
  }
}

/** `takeWatermark`, then `body` in its transaction, then commit. When this returns, the watermark is durable. */
export async function inWatermark<T>(
  client: ClientBase,
  sources: readonly Source[],
  kind: WatermarkKind,
  body: (watermark: Watermark) => Promise<T>,
): Promise<T> {
  const watermark = await takeWatermark(client, sources, kind)
  try {
    const result = await body(watermark)
    await expectNotRefreshed(client, sources)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    throw translate(error, 'Reading at a watermark', 'SOURCE_CHANGED')
  }
}

/**
 * Whether the watermark is in this database's history. When it is not (a failover that lost it, a restore, another cluster), nothing may be
 * built upon it: LINEAGE_BROKEN.
 */
export async function watermarkStillThere(client: ClientBase, watermark: Watermark): Promise<boolean> {
  try {
    const { rowCount } = await client.query(
      `select from snapflip.watermarks
       where id = $1 and nonce = decode($2, 'hex') and snapshot::text = $3 and system = $4 and system = snapflip.system()`,
      [watermark.id, watermark.nonce, watermark.snapshot, watermark.system],
    )
    return rowCount === 1
  } catch (error) {
    throw translate(error, 'Looking for a watermark', 'POSTGRES_FAILED')
  }
}

function expectCapture(sources: readonly Source[], facts: readonly TableFacts[]): void {
  for (const table of capturedTables(sources)) {
    const now = facts.find((candidate) => candidate.relid === table.relid)
    const fault = now === undefined ? `${table.name} is gone` : captureFault(now)
    if (fault === null) continue
    throw new SnapflipError(
      'NOT_APPLIED',
      `Expected working capture on ${table.name}; found that ${fault}. Attach it again with \`snapflip apply\`.`,
      {
        table: table.name,
        reason: fault,
      },
    )
  }
}
