import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Client } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { IndexEvidence } from '../../schemas/evidence.ts'
import type { SqlGate } from '../../schemas/gates.ts'
import { sqlState, translate } from '../changelog/failure.ts'
import { inPinned } from '../changelog/session.ts'
import { encodeKey } from '../snapshot/entry.ts'
import { xxh64 } from '../snapshot/hash.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import { BrokenGate, type Found, type IndexChange, keyText, type VersionSubject } from './user.ts'

const SAMPLE_KEYS = 10
/** Another than those of blocks and digests: a sample by it is no part of the key space. */
const SAMPLE_SEED = 0x736e6170666c6970n

/** json, not jsonb: the values as they are, which jsonb would refuse (a zero character) or alter. */
export const CHANGES = `create temporary table changes (index text not null, key text not null, before json, after json)`

/** As a sub-query: what is no query is refused. */
export function asQuery(sql: string): string {
  return `select found.*, count(*) over () as "snapflip found" from (${sql.replace(/;\s*$/, '')}\n) as found limit ${SAMPLE_KEYS}`
}

/**
 * Runs the query of a gate over the changes, as the temporary table `changes`, in a transaction that only reads. Each row that it returns speaks
 * against the version; of a column `key` (and `index`, where there are several) hashes are kept.
 */
export async function askSql(gate: SqlGate, subject: VersionSubject, connect: () => Promise<Client>): Promise<Found> {
  const client = await connect()
  try {
    await client.query(CHANGES)
    const changed = Object.values(subject.evidence).reduce((sum, index) => sum + changesAtMost(index), 0)
    const share = gate.beyond === 'sample' ? Math.min(1, gate.changesMax / Math.max(1, changed)) : 1
    const judged = await copyChanges(client, gate, subject, share)
    const rows = await inPinned(client, 'repeatable read', 'read only', [], async () => {
      await client.query(`select set_config('statement_timeout', $1, true)`, [`${gate.timeoutMs}ms`])
      // The extended protocol takes one statement, whatever the text holds.
      const query = { text: asQuery(gate.sql), values: [], queryMode: 'extended' }
      return (await client.query<Record<string, unknown>>(query)).rows
    })
    return toldOf(
      gate,
      subject,
      rows,
      share === 1 ? `${judged} changes` : `a sample of ${judged} of ${changed} changes`,
      judged,
    )
  } catch (error) {
    const state = sqlState(error)
    if (state === '57014')
      throw new BrokenGate(`its query took longer than ${gate.timeoutMs} ms`, { isOutOfTime: true })
    const translated = translate(error, 'A gate in SQL', 'POSTGRES_FAILED')
    // What PostgreSQL says may quote a row.
    if (state !== undefined && !/^(08|57P)/.test(state)) throw new BrokenGate(`PostgreSQL refused its query (${state})`)
    throw translated
  } finally {
    await client.end()
  }
}

/** Where nobody counted the updates, as many as there are entries. */
const changesAtMost = ({ build, inserted, updated, deleted, count }: IndexEvidence) =>
  build === 'unchanged' ? 0 : inserted + (updated ?? count) + deleted

/** Fills the table, by whole keys where only a share is wanted. @returns how many rows. */
async function copyChanges(client: Client, gate: SqlGate, subject: VersionSubject, share: number): Promise<number> {
  let rows = 0
  const wanted = (key: Buffer) => share === 1 || Number(xxh64(key, SAMPLE_SEED) >> 11n) / 2 ** 53 < share
  const copied = async function* () {
    yield HEADER
    for await (const batch of subject.changes()) {
      subject.signal.throwIfAborted()
      const taken = batch.filter(({ key }) => wanted(key))
      rows += taken.length
      if (rows > gate.changesMax) {
        if (gate.beyond === 'broken') throw new BrokenGate(`more than changesMax (${gate.changesMax}) changes`)
        const room = gate.changesMax - (rows - taken.length)
        rows = gate.changesMax
        yield tuples(taken.slice(0, room), subject)
        break
      }
      if (taken.length > 0) yield tuples(taken, subject)
    }
    yield TRAILER
  }
  await pipeline(
    Readable.from(copied(), { objectMode: false }),
    client.query(copyFrom('copy pg_temp.changes from stdin (format binary)')),
  )
  await client.query('analyze pg_temp.changes')
  return rows
}

const HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)])
const TRAILER = Buffer.from([0xff, 0xff])

function tuples(changes: readonly IndexChange[], { keyParts }: VersionSubject): Buffer {
  const parts: Buffer[] = []
  for (const { index, key, before, after } of changes)
    parts.push(FOUR, ...[Buffer.from(index), Buffer.from(keyText(key, keyParts(index))), before, after].flatMap(field))
  return Buffer.concat(parts)
}

const FOUR = Buffer.from([0, 4])
const NULL = Buffer.from([0xff, 0xff, 0xff, 0xff])

function field(bytes: Buffer | null): Buffer[] {
  if (bytes === null) return [NULL]
  const length = Buffer.alloc(4)
  length.writeInt32BE(bytes.length)
  return [length, bytes]
}

function toldOf(
  { verdict }: SqlGate,
  subject: VersionSubject,
  rows: ReadonlyArray<Record<string, unknown>>,
  seen: string,
  judged: number,
): Found {
  const found = Number(rows[0]?.['snapflip found'] ?? 0)
  const [only] = Object.keys(subject.evidence)
  const sampleKeys = rows.flatMap(({ key, index = only }) =>
    typeof key === 'string' ? [hashedKey(keyBytes(key, typeof index === 'string' ? subject.keyParts(index) : 1))] : [],
  )
  return {
    verdict: found === 0 ? 'pass' : verdict,
    summary:
      found === 0
        ? `its query found nothing in ${seen}`
        : `its query found ${found} ${found === 1 ? 'row' : 'rows'} in ${seen}`,
    actual: { found, changes: judged },
    limit: { found: 0 },
    sampleKeys,
  }
}

/** The reverse of `keyText`. */
function keyBytes(text: string, parts: number): Buffer {
  if (parts === 1 || !text.startsWith('["')) return Buffer.from(text)
  try {
    return encodeKey(JSON.parse(text))
  } catch {
    return Buffer.from(text)
  }
}
