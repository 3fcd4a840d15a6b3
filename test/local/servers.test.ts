import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { expect, test } from 'vitest'
import { isFree } from '../../src/local/free-port.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { startRedis } from '../../src/local/redis.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { testFolder } from '../support/services.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')

test('servers end, and their folders go, when the process that started them is killed', async () => {
  const script = `
    const { startPostgres } = await import('./src/local/postgres.ts')
    const { startRedis } = await import('./src/local/redis.ts')
    const [postgres, redis] = await Promise.all([startPostgres({ fsync: false }), startRedis()])
    process.stdout.write(JSON.stringify({ ports: [postgres.port, redis.port], dataDir: postgres.dataDir }), () => {
      process.kill(process.pid, 'SIGKILL')
    })`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], { cwd: root }).catch(
    (killed: { stdout: string }) => killed,
  )
  const { ports, dataDir } = JSON.parse(stdout) as { ports: number[]; dataDir: string }
  await waitUntil(
    'the ports to be free',
    async () => (await Promise.all(ports.map(isFree))).every(Boolean) || undefined,
  )
  await waitUntil('the data folder to be gone', () => !existsSync(dataDir) || undefined)
})

test('PostgreSQL keeps what was committed in its data folder across a crash', async () => {
  const { path } = await testFolder()
  await chmod(path, 0o755) // as root, the server runs under another account
  const dataDir = join(path, 'data')
  const first = await startPostgres({ dataDir })
  await query(first.url, 'create table kept as select 7 as value')
  await first.crash()
  const second = await startPostgres({ dataDir })
  expect(await query(second.url, 'select value from kept')).toEqual([{ value: 7 }])
  await second.stop()
})

test('a server that cannot start says why, in its own words', async () => {
  await expect(startRedis({ settings: { 'no-such-setting': '1' } })).rejects.toThrow(
    /ended while starting[\s\S]*no-such-setting/,
  )
  const taken = await startRedis()
  await expect(startRedis({ port: taken.port })).rejects.toThrow(/in use/i)
  await taken.stop()
})

test('a data folder that the server cannot make is an error, not a wait', async () => {
  const { path } = await testFolder()
  // As root, the server runs under an account that may not enter; else, this one may not write.
  await chmod(path, process.getuid?.() === 0 ? 0o700 : 0o500)
  await expect(startPostgres({ dataDir: join(path, 'data') })).rejects.toThrow(join(path, 'data'))
})

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {}) // the server is about to be crashed
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
