import { createHash } from 'node:crypto'
import pg from 'pg'
import { SnapflipError } from '../core/errors.ts'
import { type AcceptedAnchor, acceptedAnchors, type KnownHead } from './accepted-anchors.ts'
import { postgresFailure } from './postgres-failure.ts'
import type { Db } from './transaction.ts'

/** The end of the chain at some moment: kept in a second place, it finds a tail that was cut later. */
export interface HistoryHead {
  entries: number
  /** SHA-256 of the last entry, hex: 64 digits; all zero for an empty chain. */
  hash: string
}

/** A chain that verifies. */
export interface VerifiedHistory extends HistoryHead {
  /** Anchors that it does not lead to, and that a person accepted. */
  accepted: AcceptedAnchor[]
}

/** Entries read at a time: bounds memory, whatever the length of the history. */
const PAGE = 2_000

const NO_HASH = '0'.repeat(64)

/**
 * Computes every entry's hash again, from the first on: finds edits, removals, insertions and a changed order. A cut tail is found by the
 * head row; whoever can rewrite that too is found out by `anchors`, heads noted earlier elsewhere (stores get one with every flip). One that a person
 * accepted is not compared, but the entry that accepts it is, and so all before that.
 *
 * @returns the head, to be kept as the next anchor, and what was accepted.
 * @throws SnapflipError HISTORY_BROKEN naming the first bad entry.
 */
export async function verifyHistory(
  db: Db,
  { anchors = [] }: { anchors?: readonly KnownHead[] } = {},
): Promise<VerifiedHistory> {
  if (!(db instanceof pg.Pool)) return verify(db, anchors)
  const client = await db.connect().catch((error: unknown) => {
    throw postgresFailure(error)
  })
  try {
    // One snapshot for all pages, or an entry written meanwhile would look like one too many.
    await client.query('begin isolation level repeatable read read only')
    return await verify(client, anchors)
  } catch (error) {
    throw postgresFailure(error)
  } finally {
    await client.query('rollback').catch(() => {})
    client.release(client.getTransactionStatus() !== 'I')
  }
}

async function verify(client: pg.ClientBase, known: readonly KnownHead[]): Promise<VerifiedHistory> {
  const accepted = await acceptedAnchors(client, known)
  const anchors = known
    .filter(({ entries, hash }) => !accepted.some((anchor) => anchor.seq === entries && anchor.hash === hash))
    .flatMap((head) => [
      head,
      ...(head.acceptedBy ? [{ entries: head.acceptedBy.seq, hash: head.acceptedBy.hash }] : []),
    ])
  let head: HistoryHead = { entries: 0, hash: NO_HASH }
  for (;;) {
    const { rows } = await client.query<StoredEntry>(READ_PAGE, [head.entries, PAGE])
    for (const entry of rows) {
      const seq = head.entries + 1
      if (entry.seq !== String(seq)) throw broken(seq, `found ${entry.seq} after ${head.entries}: entries were removed`)
      if (entry.prev_hash !== head.hash) throw broken(seq, 'found it to follow another entry than the one before it')
      const hash = createHash('sha256').update(canonicalText(entry)).digest('hex')
      if (entry.hash !== hash) throw broken(seq, 'found fields that do not give its hash: it was edited')
      head = { entries: seq, hash }
      if (anchors.some((anchor) => anchor.entries === seq && anchor.hash !== hash))
        throw broken(seq, 'found another hash than its anchor has: the chain was written anew')
    }
    if (rows.length < PAGE) break
  }
  const { rows } = await client.query<{ seq: string; hash: string }>(READ_HEAD)
  const stored = rows[0]
  if (stored === undefined || stored.seq !== String(head.entries) || stored.hash !== head.hash) {
    throw broken(
      head.entries + 1,
      `found ${head.entries} entries where the head has ${stored?.seq ?? 'no row'}: the tail was cut or added to`,
    )
  }
  const longest = Math.max(0, ...anchors.map(({ entries }) => entries))
  if (longest > head.entries)
    throw broken(head.entries + 1, `found ${head.entries} entries where an anchor has ${longest}: the tail was cut`)
  return { ...head, accepted }
}

interface StoredEntry {
  seq: string
  at: string
  dataset: string | null
  actor: string
  kind: string
  version: string | null
  detail: string
  prev_hash: string
  hash: string
}

/** Primary key order, a page at a time. */
const READ_PAGE = `
  select seq::text, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, dataset, actor, kind, version,
         detail::text as detail, encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash
    from snapflip.history
   where history.seq > $1
   order by history.seq
   limit $2`

const READ_HEAD = `select seq::text, encode(hash, 'hex') as hash from snapflip.history_head`

/** As snapflip.history_text (0001_registry.sql), computed here so that a changed function cannot hide a changed entry. */
function canonicalText(entry: StoredEntry): string {
  const { seq, at, dataset, actor, kind, version, detail, prev_hash } = entry
  return Object.entries({ seq, at, dataset, actor, kind, version, detail, prev_hash })
    .map(([name, value]) => (value === null ? `${name} -\n` : `${name} ${Buffer.byteLength(value)}:${value}\n`))
    .join('')
}

function broken(seq: number, found: string): SnapflipError {
  return new SnapflipError(
    'HISTORY_BROKEN',
    `Expected entry ${seq} of the history to continue its chain, ${found}. Keep the database as it is and compare it with a backup.`,
    { seq },
  )
}
