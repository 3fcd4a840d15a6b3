import { execFile } from 'node:child_process'
import { chmod, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { type LocalPostgres, startPostgres } from '../../src/local/postgres.ts'

/** PostgreSQL 14, the newest that snapflip refuses; scripts/services puts it there. */
export function startRefusedPostgres(): Promise<LocalPostgres> {
  const packageIn = fileURLToPath(new URL('../../.tools/postgres-refused', import.meta.url))
  return startPostgres({ packageIn, fsync: false })
}

/**
 * A primary, and a standby that streams from it: made from a backup of its running data folder, as pg_basebackup takes one (which the
 * embedded binaries lack).
 */
export async function startStandby(): Promise<{
  primary: LocalPostgres
  standby: LocalPostgres
  stop(): Promise<void>
}> {
  const primary = await startPostgres({ fsync: false })
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-standby-'))
  // As root, the server runs under another account.
  await chmod(folder, 0o755)
  const dataDir = join(folder, 'data')
  const client = new pg.Client({ connectionString: primary.url })
  try {
    await client.connect()
    await client.query(`select pg_backup_start('standby', true)`)
    await cp(primary.dataDir, dataDir, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('postmaster.pid') && !/pg_wal\/[0-9A-F]{24}$/.test(path),
    })
    const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop()')
    await writeFile(join(dataDir, 'backup_label'), rows[0]?.labelfile ?? '')
    await writeFile(join(dataDir, 'standby.signal'), '')
    const { uid, gid } = await stat(primary.dataDir)
    if (process.getuid?.() === 0) await promisify(execFile)('chown', ['-R', `${uid}:${gid}`, dataDir])
    const standby = await startPostgres({ dataDir, fsync: false, settings: { primary_conninfo: primary.url } })
    const stop = async () => {
      await standby.stop()
      await primary.stop()
      await rm(folder, { recursive: true, force: true })
    }
    return { primary, standby, stop }
  } catch (error) {
    await primary.stop()
    await rm(folder, { recursive: true, force: true })
    throw error
  } finally {
    await client.end()
  }
}
