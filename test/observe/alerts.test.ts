import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import type pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { alertsSchema } from '../../schemas/alerts.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import type { Alert } from '../../src/observe/alert.ts'
import { Alerts, type AlertsOptions } from '../../src/observe/alerts.ts'
import { createLog } from '../../src/observe/log.ts'
import { claimDeliveries } from '../../src/registry/claim-deliveries.ts'
import { connectRegistry } from '../../src/registry/connect.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { migrate } from '../../src/registry/migrate.ts'
import { undeliveredAlerts } from '../../src/registry/undelivered-alerts.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { applyShop, flipped } from '../registry/shop.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { type Received, type Receiver, startReceiver } from './receiver.ts'

const SECRET = 'geheim-signing-secret'
const TIMES = { tryMs: 2_000, backoffMs: 10, lookEveryMs: 20, claimMs: 30_000, closeMs: 2_000 }
const ALERT: Alert = {
  kind: 'VERIFY_FAILED',
  dataset: 'shop',
  version: 'v20260518-02',
  incident: 'flip 1',
  summary: 'v20260518-02 of shop does not read back',
  evidence: { code: 'CORRUPT', keys: ['sha256:0123456789abcdef'] },
}

let database: TestDatabase
let logged: Array<Record<string, unknown>>
let opened: Alerts[]
beforeEach(async () => {
  process.env.TEST_ALERT_SECRET = SECRET
  database = await testDatabase()
  logged = []
  opened = []
})
afterEach(async () => {
  delete process.env.TEST_ALERT_SECRET
  for (const alerts of opened) await alerts.close()
  await database.drop()
})

/** One of a worker's; closed when the test ends. */
function alertsOf(sinks: object, { pool = database.pool, times = {}, ...more }: Partial<AlertsOptions> = {}): Alerts {
  const log = createLog({ destination: { write: (line: string) => void logged.push(JSON.parse(line)) } })
  const config = alertsSchema.parse({ sinks })
  const alerts = new Alerts({ pool, config, log, times: { ...TIMES, ...times }, ...more })
  opened.push(alerts)
  return alerts
}

const webhook = ({ url }: Pick<Receiver, 'url'>, more: object = {}) => ({
  kind: 'webhook',
  url: `${url}geheim-path`,
  secretEnv: 'TEST_ALERT_SECRET',
  allowHosts: ['127.0.0.1'],
  ...more,
})

interface Row {
  incident: string
  times: number
  sink: string | null
  outcome: string | null
  rounds: number
  found: string | null
}
const rows = () => rowsIn(database.pool)
const rowsIn = async (pool: pg.Pool): Promise<Row[]> =>
  (
    await pool.query<Row>(
      `select incident, times, sink, outcome, rounds, found
         from snapflip.alerts left join snapflip.alert_deliveries on alert = id order by raised_at, sink`,
    )
  ).rows

const told = () => logged.filter((line) => line.alert !== undefined)
const bodyOf = ({ body }: Received) => JSON.parse(body) as Record<string, unknown>
const soon = { timeout: 15_000 }

it('a webhook gets dataset, version, evidence and runbook, signed as the page says', async () => {
  const receiver = await startReceiver()
  const alerts = alertsOf({ pager: webhook(receiver) })
  alerts.start()
  expect(await alerts.raise(ALERT)).toBe(true)
  await expect.poll(rows, soon).toMatchObject([{ incident: 'flip 1', times: 1, sink: 'pager', outcome: 'delivered' }])

  const [received] = receiver.received as [Received]
  const body = bodyOf(received)
  expect(body).toMatchObject({ ...ALERT, runbook: 'runbooks/bad-version.md' })
  const schema = JSON.parse(await readFile(new URL('../../schemas/alert.schema.json', import.meta.url), 'utf8'))
  expect(new Ajv2020({ validateFormats: false }).validate(schema, body)).toBe(true)
  expect(received.headers).toMatchObject({ 'snapflip-delivery': body.id, 'content-type': 'application/json' })

  const isFromSnapflip = await functionOfThePage()
  const header = received.headers['snapflip-signature']
  expect(isFromSnapflip(SECRET, header, received.body)).toBe(true)
  expect(isFromSnapflip('another', header, received.body)).toBe(false)
  expect(isFromSnapflip(SECRET, header, received.body.replace('shop', 'shed'))).toBe(false)
  expect(isFromSnapflip(SECRET, header, received.body, Date.now() + 600_000)).toBe(false)

  expect(told()).toMatchObject([
    {
      alert: 'VERIFY_FAILED',
      dataset: 'shop',
      version: ALERT.version,
      incident: ALERT.incident,
      evidence: ALERT.evidence,
      runbook: 'runbooks/bad-version.md',
      msg: ALERT.summary,
    },
  ])
  expect(await historyEntries(database.pool)).toMatchObject([
    {
      kind: 'alert.verify_failed',
      dataset: 'shop',
      version: ALERT.version,
      detail: { ...ALERT.evidence, incident: 'flip 1', alert: body.id },
    },
  ])
  await verifyHistory(database.pool)
})

it('an incident is told once, however many workers meet it at once, and counted', async () => {
  const receiver = await startReceiver()
  const workers = [1, 2, 3].map(() => alertsOf({ pager: webhook(receiver) }))
  for (const worker of workers) worker.start()
  await Promise.all(Array.from({ length: 12 }, (_, n) => workers[n % 3]?.raise(ALERT)))
  await workers[0]?.raise({ ...ALERT, incident: 'flip 2' })
  await workers[0]?.raise({ ...ALERT, dataset: 'shed' })
  await expect.poll(async () => (await rows()).every(({ outcome }) => outcome === 'delivered'), soon).toBe(true)
  expect((await rows()).map(({ times }) => times)).toEqual([12, 1, 1])
  expect(receiver.received).toHaveLength(3)
  expect(told()).toHaveLength(3)
  expect(await historyEntries(database.pool)).toHaveLength(3)
})

it('of several workers one delivers each', async () => {
  const receiver = await startReceiver()
  const recorder = alertsOf({ pager: webhook(receiver) })
  for (let n = 0; n < 30; n++) await recorder.raise({ ...ALERT, incident: `flip ${n}` })
  const workers = [1, 2, 3].map(() => alertsOf({ pager: webhook(receiver) }))
  for (const worker of workers) worker.start()
  await expect.poll(async () => (await rows()).every(({ outcome }) => outcome === 'delivered'), soon).toBe(true)
  expect(receiver.received.map((received) => bodyOf(received).incident).sort()).toEqual(
    Array.from({ length: 30 }, (_, n) => `flip ${n}`).sort(),
  )
})

describe('a receiver', () => {
  it('that fails is tried again, under the same id', async () => {
    const receiver = await startReceiver({
      answer: (response, nth) => response.writeHead(nth === 1 ? 503 : nth === 2 ? 429 : 200).end(),
    })
    const alerts = alertsOf({ pager: webhook(receiver) })
    alerts.start()
    await alerts.raise(ALERT)
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered', rounds: 1 }])
    expect(new Set(receiver.received.map(({ headers }) => headers['snapflip-delivery'])).size).toBe(1)
    expect(receiver.received).toHaveLength(3)
  })

  it.each([
    [400, 'found 400'],
    [302, 'a redirect'],
  ])('that answers %i is not asked again, until a worker starts', async (status, found) => {
    const receiver = await startReceiver({ answer: (response) => response.writeHead(status).end() })
    const alerts = alertsOf({ pager: webhook(receiver) })
    alerts.start()
    await alerts.raise(ALERT)
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'refused', found: expect.stringContaining(found) }])
    await alerts.raise({ ...ALERT, incident: 'flip 2' })
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'refused' }, { outcome: 'refused' }])
    expect(receiver.received).toHaveLength(2)
    expect(await undeliveredAlerts(database.pool)).toMatchObject([{ sink: 'pager', outcome: 'refused' }, {}])
    expect(logged.filter((line) => line.msg === 'an alert was not delivered')).toHaveLength(2)

    receiver.answer = (response) => response.end()
    await alerts.close()
    alertsOf({ pager: webhook(receiver) }).start()
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }, { outcome: 'delivered' }])
  })

  it('that hangs holds up neither who raises nor the other sinks', async () => {
    const held: Array<() => void> = []
    const hanging = await startReceiver({ answer: (response) => void held.push(() => response.end()) })
    const receiver = await startReceiver()
    const alerts = alertsOf({ hanging: webhook(hanging), pager: webhook(receiver) }, { times: { tryMs: 60_000 } })
    alerts.start()
    await alerts.raise(ALERT)
    await alerts.raise({ ...ALERT, incident: 'flip 2' })
    await expect.poll(() => receiver.received.length, soon).toBe(2)
    await expect.poll(() => held.length, soon).toBe(2)
    expect((await rows()).filter(({ sink }) => sink === 'hanging')).toMatchObject([
      { outcome: null },
      { outcome: null },
    ])
    for (const release of held) release()
    await expect.poll(async () => (await rows()).every(({ outcome }) => outcome === 'delivered'), soon).toBe(true)
  })

  it('that never answers is given up within a day, and stays on the list', async () => {
    const receiver = await startReceiver()
    await receiver.stop()
    const alerts = alertsOf({ pager: webhook(receiver) })
    alerts.start()
    await alerts.raise(ALERT)
    await expect
      .poll(rows, soon)
      .toMatchObject([{ outcome: null, rounds: 1, found: expect.stringContaining('ECONNREFUSED') }])
    expect(await undeliveredAlerts(database.pool)).toMatchObject([{ kind: 'VERIFY_FAILED', outcome: null }])
    await database.pool.query(`update snapflip.alerts set raised_at = raised_at - interval '25 hours'`)
    await database.pool.query('update snapflip.alert_deliveries set next_at = now()')
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'expired', rounds: 2 }])
    expect(await undeliveredAlerts(database.pool)).toMatchObject([{ outcome: 'expired' }])
  })
})

describe('a worker that dies', () => {
  it('right after it raised an alert: the next one delivers it', async () => {
    const receiver = await startReceiver()
    // One that does not deliver is one that died before it could.
    await alertsOf({ pager: webhook(receiver) }).raise(ALERT)
    expect(receiver.received).toEqual([])
    alertsOf({ pager: webhook(receiver) }).start()
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }])
    expect(receiver.received).toHaveLength(1)
  })

  it('while it delivers: another does, when its claim has ended', async () => {
    const receiver = await startReceiver()
    await alertsOf({ pager: webhook(receiver) }).raise(ALERT)
    expect(await claimDeliveries(database.pool, { limit: 1, claimMs: 60_000 })).toHaveLength(1)
    const alive = alertsOf({ pager: webhook(receiver) })
    alive.start()
    await alive.raise({ ...ALERT, incident: 'flip 2' })
    await expect.poll(rows, soon).toMatchObject([{ outcome: null }, { outcome: 'delivered' }])
    expect(receiver.received).toHaveLength(1)
    await database.pool.query('update snapflip.alert_deliveries set claimed_until = now() where outcome is null')
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }, { outcome: 'delivered' }])
  })

  it('while nobody answered: the next one tries at once', async () => {
    const receiver = await startReceiver()
    await receiver.stop()
    const before = alertsOf({ pager: webhook(receiver) })
    before.start()
    await before.raise(ALERT)
    await expect.poll(rows, soon).toMatchObject([{ outcome: null, rounds: 1 }])
    await before.close()
    const back = await startReceiver({ port: receiver.port })
    alertsOf({ pager: webhook(back) }).start()
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered', rounds: 2 }])
  })
})

it('one that stops waits for what is on its way, then leaves it to the next', async () => {
  const receiver = await startReceiver({ answer: () => undefined })
  const alerts = alertsOf({ pager: webhook(receiver) }, { times: { tryMs: 60_000, closeMs: 50 } })
  alerts.start()
  await alerts.raise(ALERT)
  await expect.poll(() => receiver.received.length, soon).toBe(1)
  await alerts.close()
  expect(await rows()).toMatchObject([{ outcome: null, found: expect.stringContaining('the worker stops') }])
})

it('while PostgreSQL is down the log has it and each sink is tried once; then it is recorded', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-alerts-'))
  // As root, the server runs under another account.
  await chmod(folder, 0o755)
  const dataDir = join(folder, 'data')
  let server = await startPostgres({ dataDir, fsync: false })
  onTestFinished(async () => {
    await server.stop()
    await rm(folder, { recursive: true, force: true })
  })
  await migrate(server.url)
  const pool = await connectRegistry(server.url)
  onTestFinished(() => pool.end())
  const receiver = await startReceiver()
  const gone = await startReceiver()
  await gone.stop()
  const alerts = alertsOf({ pager: webhook(receiver), bridge: webhook(gone) }, { pool })
  alerts.start()
  await server.crash()

  expect(await alerts.raise(ALERT)).toBe(false)
  expect(await alerts.raise(ALERT)).toBe(false)
  await expect.poll(() => receiver.received.length, soon).toBe(1)
  expect(told()).toMatchObject([{ alert: 'VERIFY_FAILED', recorded: false }])

  server = await startPostgres({ dataDir, port: server.port, fsync: false })
  await expect
    .poll(() => rowsIn(pool).catch(() => []), soon)
    .toMatchObject([
      { sink: 'bridge', outcome: null },
      { sink: 'pager', outcome: 'delivered', rounds: 0 },
    ])
  expect(await alerts.raise(ALERT)).toBe(true)
  expect(receiver.received).toHaveLength(1)
  expect(told()).toHaveLength(1)
  expect(await historyEntries(pool)).toMatchObject([{ kind: 'alert.verify_failed' }])
  await alerts.close()
})

it('who raises waits no longer for a PostgreSQL that hangs than is declared', async () => {
  const receiver = await startReceiver()
  const alerts = alertsOf({ pager: webhook(receiver) }, { times: { raiseMs: 200 } })
  const blocker = await database.pool.connect()
  try {
    await blocker.query('begin; lock table snapflip.alerts')
    expect(await alerts.raise(ALERT)).toBe(false)
    // Its statement still waits, and nobody waits for it.
    const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
    expect((await blocker.query(waiting)).rowCount).toBeGreaterThan(0)
    await expect.poll(() => receiver.received.length, soon).toBe(1)
    expect(told()).toMatchObject([{ recorded: false }])
  } finally {
    await blocker.query('commit')
    blocker.release()
  }
  alerts.start()
  await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }])
  await alerts.close()
  expect(receiver.received).toHaveLength(1)
  expect(told()).toHaveLength(1)
  expect(await historyEntries(database.pool)).toHaveLength(1)
})

it('an alert that the registry cannot take is told, and holds up no other', async () => {
  const receiver = await startReceiver()
  const alerts = alertsOf({ pager: webhook(receiver) })
  alerts.start()
  expect(await alerts.raise({ ...ALERT, incident: 'flip 0', summary: 'no text of PostgreSQL has \0' })).toBe(false)
  await expect.poll(() => receiver.received.length, soon).toBe(1)
  expect(await alerts.raise(ALERT)).toBe(true)
  await expect.poll(rows, soon).toMatchObject([{ incident: 'flip 1', outcome: 'delivered' }])
  expect(told()).toHaveLength(2)
})

describe('a sink', () => {
  it('gets the kinds and datasets that it names', async () => {
    const receiver = await startReceiver()
    const alerts = alertsOf({
      all: webhook(receiver),
      kinds: webhook(receiver, { kinds: ['VERIFY_FAILED'] }),
      shed: webhook(receiver, { datasets: ['shed'] }),
    })
    await alerts.raise(ALERT)
    await alerts.raise({ ...ALERT, kind: 'STORE_REBOUND', dataset: 'shed' })
    expect((await rows()).map(({ sink }) => sink)).toEqual(['all', 'kinds', 'all', 'shed'])
  })

  it('of Slack gets text in which nothing is a link or a mention', async () => {
    const receiver = await startReceiver()
    process.env.TEST_ALERT_SLACK = `${receiver.url}services/geheim`
    const sink = { kind: 'slack', urlEnv: 'TEST_ALERT_SLACK', allowHosts: ['127.0.0.1'] }
    const config = alertsSchema.parse({ sinks: { chat: sink }, runbooks: 'https://git.example.com/ops/' })
    const alerts = alertsOf({}, { config })
    alerts.start()
    await alerts.raise({ ...ALERT, summary: '<!channel> a & b <https://x|y>', evidence: { keys: ['x'.repeat(900)] } })
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }])
    const [{ path, body }] = receiver.received as [Received]
    expect(path).toBe('/services/geheim')
    const { text, ...nothing } = JSON.parse(body) as { text: string }
    expect(nothing).toEqual({})
    expect(text.split('\n')).toEqual([
      'VERIFY_FAILED: shop v20260518-02',
      '&lt;!channel&gt; a &amp; b &lt;https://x|y&gt;',
      expect.stringMatching(/^evidence: \{"keys":\["x{200,300}…$/),
      'runbook: https://git.example.com/ops/bad-version.md',
      'incident: flip 1',
    ])
  })

  it('whose secret is not set, or that this worker does not know, waits', async () => {
    const receiver = await startReceiver()
    delete process.env.TEST_ALERT_SECRET
    const alerts = alertsOf({ pager: webhook(receiver) })
    alerts.start()
    await alerts.raise(ALERT)
    await expect
      .poll(rows, soon)
      .toMatchObject([{ outcome: null, found: expect.stringContaining('TEST_ALERT_SECRET') }])
    await alerts.close()
    const without = alertsOf({})
    without.start()
    await expect
      .poll(rows, soon)
      .toMatchObject([{ outcome: null, found: expect.stringContaining('alerts.sinks.pager') }])
    await without.close()
    process.env.TEST_ALERT_SECRET = SECRET
    alertsOf({ pager: webhook(receiver) }).start()
    await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }])
  })
})

it('evidence beyond the limit is not sent, and said to be in the history, where it is', async () => {
  const receiver = await startReceiver()
  const alerts = alertsOf({ pager: webhook(receiver) })
  alerts.start()
  const evidence = { keys: ['x'.repeat(5000)] }
  await alerts.raise({ ...ALERT, evidence })
  await expect.poll(rows, soon).toMatchObject([{ outcome: 'delivered' }])
  const omitted = '5013 bytes, more than the 4096 that are sent; `snapflip history shop --kind alert --json` has them'
  expect(bodyOf(receiver.received[0] as Received).evidence).toEqual({ omitted })
  expect(told()).toMatchObject([{ evidence: { omitted } }])
  expect(await historyEntries(database.pool)).toMatchObject([{ detail: evidence }])
})

it('one that is of no version names the one that readers are on', async () => {
  const alerts = alertsOf({})
  const failing: Alert = { ...ALERT, kind: 'REFRESH_FAILING', version: null }
  await alerts.raise({ ...failing, incident: 'before the first' })
  await applyShop(database.pool)
  const first = await flipped(database.pool, null)
  const tag = await flipped(database.pool, first)
  await alerts.raise(failing)
  expect(told().map(({ version }) => version)).toEqual([null, tag])
  const entries = await historyEntries(database.pool, { kind: 'alert.refresh_failing' })
  expect(entries.map(({ version }) => version).sort()).toEqual([tag, null].sort())
})

it('secrets are neither logged nor kept, whatever goes wrong', async () => {
  const receiver = await startReceiver({ answer: (response) => response.writeHead(500).end('geheim') })
  const gone = await startReceiver()
  await gone.stop()
  process.env.TEST_ALERT_SLACK = `${gone.url}geheim`
  const alerts = alertsOf({
    pager: webhook(receiver),
    gone: webhook(gone),
    chat: { kind: 'slack', urlEnv: 'TEST_ALERT_SLACK', allowHosts: ['127.0.0.1'] },
    strict: { kind: 'slack', urlEnv: 'TEST_ALERT_SLACK' },
    wrong: { kind: 'slack', urlEnv: 'TEST_ALERT_SECRET' },
  })
  alerts.start()
  await alerts.raise(ALERT)
  await expect.poll(async () => (await rows()).every(({ found }) => found !== null), soon).toBe(true)
  expect((await rows()).map(({ sink, outcome }) => `${sink} ${outcome}`)).toEqual([
    'chat null',
    'gone null',
    'pager null',
    'strict refused',
    'wrong refused',
  ])
  const kept = await database.pool.query(
    `select to_jsonb(a) as a, (select jsonb_agg(to_jsonb(d)) from snapflip.alert_deliveries d) as d from snapflip.alerts a`,
  )
  const everything = JSON.stringify([logged, kept.rows, await historyEntries(database.pool)])
  expect(everything).toContain('127.0.0.1')
  expect(everything).not.toContain('geheim')
})

/** What docs/alerts.md tells receivers to do, as it stands there. */
async function functionOfThePage(): Promise<(secret: string, header: unknown, body: string, now?: number) => boolean> {
  const page = await readFile(new URL('../../docs/alerts.md', import.meta.url), 'utf8')
  const [, code] = /^```js\n([\s\S]*?)^```/m.exec(page) ?? []
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-alerts-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'receiver.mjs')
  await writeFile(file, code ?? '')
  return (await import(pathToFileURL(file).href)).isFromSnapflip
}
