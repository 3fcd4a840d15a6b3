import type pg from 'pg'
import type { Pin } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, select, transaction } from './transaction.ts'
import { version } from './version.ts'

interface PinRow {
  tag: string
  ordinal: number
  digest: string
  manifest: string
  until: Date
  by: string
  reason: string
}

/** What an operator keeps readers on: not lifted, not expired, and nothing that is forbidden by now. Null: nothing. */
export async function activePin(db: Db, dataset: string): Promise<Pin | null> {
  const [row] = await select<PinRow>(db, ACTIVE, [dataset])
  if (row === undefined) return null
  const { tag, ordinal, digest, manifest, until, by, reason } = row
  return { version: { tag, ordinal, digest, manifest }, until: until.toISOString(), by, reason }
}

const ACTIVE = `
  select tag, ordinal, digest, manifest_sha256 as manifest, until, by, reason
    from snapflip.pins join snapflip.index_versions using (dataset, tag)
   where dataset = $1 and lifted_at is null and until > clock_timestamp() and state in ('active', 'retained')`

/**
 * Keeps a version from being retired until then, and its readers on it once the pointer has it. Takes the place of a pin before. The same again:
 * nothing happens.
 *
 * @throws SnapflipError CONFLICT for a version that readers were never on: nobody has seen it pass.
 */
export async function putPin(
  db: Db,
  { dataset, tag, until, by, reason }: { dataset: string; tag: string; until: string; by: string; reason: string },
): Promise<Pin> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { state, ordinal, digest, manifestSha256 } = await version(client, dataset, tag)
    if ((state !== 'active' && state !== 'retained') || digest === null || manifestSha256 === null) {
      throw new SnapflipError(
        'CONFLICT',
        `Expected a version of ${dataset} that readers are on or were on, found ${tag} ${state}. \`snapflip versions ${dataset}\` lists them.`,
        { dataset, tag, state },
      )
    }
    const pin = { version: { tag, ordinal, digest, manifest: manifestSha256 }, until, by, reason }
    const now = await activePin(client, dataset)
    if (now !== null && JSON.stringify(now) === JSON.stringify(pin)) return pin
    await dropPin(client, { dataset, by, reason: 'replaced by another pin', only: null })
    await client.query('insert into snapflip.pins (dataset, tag, until, by, reason) values ($1, $2, $3, $4, $5)', [
      dataset,
      tag,
      until,
      by,
      reason,
    ])
    const replaces = now === null ? {} : { replaces: now.version.tag }
    await record(client, { dataset, actor: by, kind: 'pin', version: tag, detail: { until, reason, ...replaces } })
    return pin
  })
}

/**
 * Lifts the pin, or with `only` that one and no later one. None there, nor in the store as the caller read it: nothing happens.
 *
 * @returns the tag that was pinned.
 */
export async function liftPin(
  db: Db,
  {
    dataset,
    by,
    reason,
    only = null,
    inStore = null,
  }: {
    dataset: string
    /** Null: it expired. */
    by: string | null
    reason: string
    only?: { tag: string; until: string } | null
    inStore?: string | null
  },
): Promise<string | null> {
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const tag = (await dropPin(client, { dataset, by: by ?? 'snapflip', reason, only })) ?? inStore
    if (tag !== null) await record(client, { dataset, actor: by, kind: 'unpin', version: tag, detail: { reason } })
    return tag
  })
}

/** A pin to a version that is forbidden, with its entry, in a transaction that holds the lock of the dataset's row. There is none: nothing happens. */
export async function liftForbiddenPin(
  client: pg.ClientBase,
  { dataset, tag, by, reason }: { dataset: string; tag: string; by: string; reason: string },
): Promise<void> {
  if ((await dropPin(client, { dataset, by, reason, only: { tag } })) === null) return
  await record(client, { dataset, actor: by, kind: 'unpin', version: tag, detail: { reason } })
}

/** The row alone. */
async function dropPin(
  client: pg.ClientBase,
  {
    dataset,
    by,
    reason,
    only,
  }: { dataset: string; by: string; reason: string; only: { tag: string; until?: string } | null },
): Promise<string | null> {
  const values = [dataset, by, reason, only?.tag ?? null, only?.until ?? null]
  const { rows } = await client.query<{ tag: string }>(LIFT, values)
  return rows[0]?.tag ?? null
}

const LIFT = `
  update snapflip.pins
     set lifted_at = clock_timestamp(), lifted_by = $2, lifted_reason = $3
   where dataset = $1 and lifted_at is null
     and ($4::text is null or tag = $4)
     and ($5::timestamptz is null or date_trunc('milliseconds', until) = $5)
  returning tag`
