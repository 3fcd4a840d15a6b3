import { type Db, select } from './transaction.ts'

/** The server's version, and the role that this connection acts as. */
export async function server(db: Db): Promise<{ version: string; role: string }> {
  const [found] = await select<{ version: string; role: string }>(
    db,
    `select current_setting('server_version') as version, current_user as role`,
  )
  return found ?? { version: 'unknown', role: 'unknown' }
}
