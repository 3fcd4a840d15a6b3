import type pg from 'pg'
import type { Anchor } from '../../schemas/pointer.ts'

/** The end of the chain as this transaction sees it. After `record` in the same transaction it is that entry. */
export async function historyHead(client: pg.ClientBase): Promise<Anchor> {
  const { rows } = await client.query<{ seq: string; hash: string }>(
    `select seq, encode(hash, 'hex') as hash from snapflip.history_head`,
  )
  const { seq, hash } = rows[0] as { seq: string; hash: string }
  return { seq: Number(seq), hash }
}
