import { chown, copyFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { connectBuilder } from '../../src/changelog/session.ts'
import { type LocalPostgres, startPostgres } from '../../src/local/postgres.ts'
import { connectRegistry } from '../../src/registry/connect.ts'
import { type Certificate, makeCertificate } from '../stores/certificates.ts'
import { type TestFolder, testFolder } from '../support/services.ts'

let folder: TestFolder
let right: Certificate
let wrong: Certificate
let postgres: LocalPostgres
beforeAll(async () => {
  folder = await testFolder()
  right = await makeCertificate(folder.path, 'right')
  wrong = await makeCertificate(folder.path, 'wrong')
  postgres = await startPostgres({ fsync: false })
  // The server reads its key only where it owns it.
  const { uid, gid } = await stat(postgres.dataDir)
  for (const [from, name] of [
    [right.cert, 'server.crt'],
    [right.key, 'server.key'],
  ] as const) {
    await copyFile(from, join(postgres.dataDir, name))
    await chown(join(postgres.dataDir, name), uid, gid)
  }
  const admin = new pg.Client(postgres.url)
  await admin.connect()
  await admin.query('alter system set ssl = on')
  await admin.query('select pg_reload_conf()')
  await admin.end()
})
afterAll(() => postgres?.stop())

const withTls = (mode: string, ca?: Certificate) => {
  const url = new URL(postgres.url)
  url.searchParams.set('sslmode', mode)
  if (ca !== undefined) url.searchParams.set('sslrootcert', ca.cert)
  return url.href
}
const IS_TLS = 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'

it('registry and builder connect by TLS with the authority of the URL', async () => {
  const pool = await connectRegistry(withTls('verify-full', right))
  const builder = await connectBuilder(withTls('verify-full', right))
  try {
    expect((await pool.query(IS_TLS)).rows).toEqual([{ ssl: true }])
    expect((await builder.query(IS_TLS)).rows).toEqual([{ ssl: true }])
  } finally {
    await pool.end()
    await builder.end()
  }
})

it.each([
  ['another authority than the URL gives', () => withTls('verify-full', wrong)],
  ['none that the system knows', () => withTls('verify-full')],
])('a server certificate by %s is refused, and said to be', async (_title, url) => {
  await expect(connectRegistry(url())).rejects.toMatchObject({
    code: 'POSTGRES_UNREACHABLE',
    message: expect.stringMatching(/certificate.*sslrootcert/),
  })
})

it('a server without TLS is told from one that does not answer', async () => {
  const admin = new pg.Client(postgres.url)
  await admin.connect()
  await admin.query('alter system set ssl = off')
  await admin.query('select pg_reload_conf()')
  await admin.end()
  await expect
    .poll(() => connectRegistry(withTls('verify-full', right)).catch((error) => error.message))
    .toMatch(/SSL|TLS/)
})
