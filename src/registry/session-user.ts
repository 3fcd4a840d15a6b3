import { type Db, select } from './transaction.ts'

/** Who acts, as PostgreSQL knows it. */
export async function sessionUser(db: Db): Promise<string> {
  const [row] = await select<{ name: string }>(db, 'select session_user as name')
  return row?.name ?? 'unknown'
}
