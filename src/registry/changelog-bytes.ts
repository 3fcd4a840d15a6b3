import { type Db, select } from './transaction.ts'

/** The changelog with its indexes and what is stored out of line, of all datasets. */
export async function changelogBytes(db: Db): Promise<number> {
  const rows = await select<{ bytes: string }>(db, `select pg_total_relation_size('snapflip.changelog') as bytes`)
  return Number(rows[0]?.bytes ?? 0)
}
