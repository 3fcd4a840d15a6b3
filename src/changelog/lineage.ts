import type { ClientBase } from 'pg'
import { inPinned } from './session.ts'

/**
 * Makes the transaction numbers in snapflip's tables this database's own, when they are not: before its first watermark, and after a dump
 * was restored or rows of another database were loaded. No watermark is in its history then, and every version built next is a full one.
 */
export async function beginLineage(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ own: boolean }>(
    'select array(select system from snapflip.lineage) = array[snapflip.system()] as own',
  )
  if (rows[0]?.own) return
  await inPinned(client, 'read committed', 'read write', [], () => client.query('select snapflip.begin_lineage()'))
}
