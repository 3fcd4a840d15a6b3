import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client, Connection, type WorkflowClient } from '@temporalio/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConfigInput } from '../../schemas/config.ts'
import { incidentSchema } from '../../schemas/incident.ts'
import type { Anchor } from '../../schemas/pointer.ts'
import { type RefreshOutcome, WORKFLOW_ID } from '../../schemas/refresh.ts'
import { freePort } from '../../src/local/free-port.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { openStore } from '../../src/stores/open.ts'
import { type Project, testProject } from './project.ts'
import { json, type startSnapflip } from './run.ts'

/** One dataset through its life, as a person at the command line sees it; each test goes on where the one before ended. */
let project: Project
let worker: ReturnType<typeof startSnapflip>
let first: string
let second: string
let unusedPort: number

/** Each refresh names its policy, the digest of that, and the snapflip that ran it. */
const RAN_UNDER = /^ran under +policy 1 \([0-9a-f]{64}\), snapflip \d+\.\d+\.\d+\S*$/m

/** Its store is where nothing listens. */
const withoutStore = (definition: ConfigInput): ConfigInput => ({
  ...definition,
  stores: { main: `redis://127.0.0.1:${unusedPort}/` },
})

async function refresh(...options: string[]): Promise<{ code: number; outcome: RefreshOutcome }> {
  const ran = await project.run(['refresh', project.dataset, '--json', ...options])
  return { code: ran.code, outcome: json<RefreshOutcome & Record<string, unknown>>(ran) }
}

async function atTemporal(work: (workflow: WorkflowClient) => Promise<unknown>): Promise<void> {
  const { address, namespace } = project.temporal
  const connection = await Connection.connect({ address })
  try {
    await work(new Client({ connection, namespace }).workflow)
  } finally {
    await connection.close()
  }
}

/** Until then a worker that starts could finish it first. */
const cancellationAsked = (workflowId: string) =>
  atTemporal((workflow) =>
    waitUntil('the request to cancel', async () => {
      const { events } = await workflow.getHandle(workflowId).fetchHistory()
      return events?.some((event) => event.workflowExecutionCancelRequestedEventAttributes != null) ? true : undefined
    }),
  )

beforeAll(async () => {
  project = await testProject({ migrated: false })
  unusedPort = await freePort()
})
afterAll(async () => {
  worker?.kill('SIGTERM')
  await worker?.ended
})

test('plan and apply: first the tables, then what the definition needs; again nothing', async () => {
  expect(json(await project.run(['plan', '--json']))).toMatchObject({
    migrations: expect.arrayContaining(['0001_registry', '0002_changelog', '0003_alerts']),
    datasets: [{ changes: expect.arrayContaining([{ path: 'indexes.products.where', after: 'not hidden' }]) }],
  })
  const fresh = await project.run(['plan'])
  expect(fresh.stdout).toMatch(/tables: to be made or changed by 0001_registry/)
  expect(fresh.stdout).toMatch(
    /definition new\n {2}refreshed when somebody asks\n(?: {2}[^+\n]+\n)+ {2}\+ capture on public\.products\n/,
  )
  expect(fresh.stdout).toContain('  ~ indexes.byCategory.many: false → true\n')
  expect(fresh.stdout).toMatch(/products +public\.products +full +2000 .*the first version of this index/)
  expect(fresh.stdout).toMatch(/full builds need about [\d.]+ KiB, .* free\.\n$/)
  const { rowCount } = await project.database.pool.query("select from pg_namespace where nspname = 'snapflip'")
  expect(rowCount).toBe(0)
  const applied = await project.run(['apply', '--yes', '--json'])
  expect(applied.code).toBe(0)
  expect(json(applied)).toMatchObject({
    datasets: [{ dataset: project.dataset, definition: 1, changed: true, attached: ['public.products'], detached: [] }],
  })
  expect(json(await project.run(['apply', '--json']))).toMatchObject({ datasets: [{ changed: false, attached: [] }] })
  const planned = await project.run(['plan'])
  expect(planned.code).toBe(0)
  expect(planned.stdout).toMatch(/definition as applied\n {2}capture as it must be\n/)
  expect(planned.stdout).toMatch(/products +public\.products +full +2000 .*the first version of this index/)
  expect(planned.stdout).toMatch(/free\.\n$/)
})

test('a refresh without a worker says so and waits; Ctrl-C detaches and says how to follow or cancel', async () => {
  const waiting = project.start(['refresh', project.dataset, '--json'])
  await waitUntil('the note that there is no worker', () =>
    waiting.seen.stderr.includes(`No worker polls task queue ${project.temporal.taskQueue}`) ? true : undefined,
  )
  const twice = await project.run(['refresh', project.dataset, '--json'])
  expect(twice.code).toBe(8)
  expect(json(twice)).toMatchObject({ code: 'REFRESH_RUNNING', details: { workflowId: `refresh:${project.dataset}` } })
  waiting.kill('SIGINT')
  const detached = await waiting.ended
  expect(detached.code).toBe(130)
  expect(json(detached)).toMatchObject({ workflowId: `refresh:${project.dataset}`, detached: true })
  expect(detached.stderr).toMatch(/Detached; .*--follow.*snapflip cancel/)
})

test('a worker goes on with it, and --follow follows it to its end', async () => {
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  const followed = await project.run(['refresh', project.dataset, '--follow'])
  // Which steps are seen depends on how fast they pass.
  expect(followed.stderr).toMatch(/^(plan|build|gates|preflip|flip|verify|retire)( v\S+)?: /m)
  expect(followed.code).toBe(0)
  first = /FLIPPED (v\d{8}-01): /.exec(followed.stdout)?.[1] ?? ''
  expect(first).toMatch(/^v/)
})

test('doctor finds all well', async () => {
  const ran = await project.run(['doctor'])
  expect(ran.stdout).toMatch(/All is well\.\n$/)
  expect(ran.code).toBe(0)
})

test('get prints what readers get', async () => {
  const one = await project.run(['get', project.dataset, 'products', '1'])
  expect(one).toMatchObject({ code: 0, stdout: '{"sku":"sku1","name":"Product 1","price_cents":10}\n' })
  const many = json<{ values: number[] }>(await project.run(['get', project.dataset, 'byCategory', 'cat1', '--json']))
  expect(many.values.slice(0, 3)).toEqual([1, 8, 15])
  const none = await project.run(['get', project.dataset, 'products', '10', '--json'])
  expect(json(none)).toMatchObject({ found: false, version: first })
  expect(none.stderr).toContain('has no entry for 10')
})

test('changes make the next version; nothing new makes none', async () => {
  await project.database.pool.query('update products set price_cents = price_cents + 1 where id <= 21')
  const { code, outcome } = await refresh('--reason', 'new prices')
  expect(code).toBe(0)
  expect(outcome.status).toBe('FLIPPED')
  second = outcome.tag ?? ''
  expect(outcome.gates.every(({ verdict }) => verdict === 'pass')).toBe(true)
  expect((await refresh()).outcome).toMatchObject({ status: 'NOTHING_NEW', tag: null, active: second })
})

test('explain names the change; a value that did not change comes from the full build', async () => {
  const changed = json(await project.run(['explain', project.dataset, 'products', '21', '--json']))
  expect(changed).toMatchObject({
    version: second,
    writtenBy: second,
    values: [{ price_cents: 211 }],
    origin: { kind: 'change', version: second, change: { op: 'u', table: 'public.products' } },
    location: { generation: expect.stringMatching(/^[0-9a-f]{32}$/) },
  })
  const unchanged = json(await project.run(['explain', project.dataset, 'products', '1999', '--json']))
  expect(unchanged).toMatchObject({ origin: { kind: 'full build', version: first } })
})

test('diff, verify and show say what the versions hold', async () => {
  const difference = json<{ indexes: Record<string, unknown> }>(
    await project.run(['diff', project.dataset, first, second, '--json']),
  )
  expect(difference.indexes.products).toMatchObject({ inserted: 0, updated: 19, deleted: 0 })
  const verified = await project.run(['verify', project.dataset, first, '--rebuild', '--json'])
  expect(verified.code).toBe(0)
  expect(json(verified)).toMatchObject({
    sound: true,
    proofs: { products: { verdict: 'equal' }, byCategory: { verdict: 'equal' } },
  })
  const shown = await project.run(['show', project.dataset, second])
  expect(shown.stdout).toMatch(new RegExp(`parent +${first}\n`))
  expect(shown.stdout).toMatch(RAN_UNDER)
  expect(shown.stdout).toMatch(/pass +integrity +products/)
})

test('verify --rebuild finds that a version and its source do not agree', async () => {
  // What no gate may see: a change that was captured, and its record then removed by somebody with every right.
  await project.database.pool.query(
    `update products set name = 'y' where id = 7; delete from snapflip.changelog where after like '(7,%'`,
  )
  const found = await project.run(['verify', project.dataset, '--rebuild', '--json'])
  expect(found.code).toBe(12)
  expect(json(found)).toMatchObject({
    code: 'VERIFY_FAILED',
    sound: true,
    proofs: { products: { verdict: 'different' } },
  })
})

test('verify --rebuild proves nothing across a gap in capture, and says so', async () => {
  // As a bulk load does that forgot about triggers: the change is not captured.
  await project.database.pool.query(
    `begin; alter table products disable trigger snapflip_capture; update products set name = 'x' where id = 5;
     alter table products enable always trigger snapflip_capture; commit`,
  )
  // The look at capture notices: nothing is proven across the gap.
  expect(json(await project.run(['verify', project.dataset, '--rebuild', '--json']))).toMatchObject({
    proofs: { products: { verdict: 'unproven', found: expect.stringContaining('disabled and enabled again') } },
  })
  const { outcome } = await refresh()
  expect(outcome.summary).toMatch(/built in full/)
  second = outcome.tag ?? ''
})

test('a bad change is refused with its evidence, readers untouched, exit code 11', async () => {
  await project.database.pool.query(
    'create table kept as select * from products where id > 500; delete from products where id > 500',
  )
  await project.define((definition) => {
    const dataset = definition.datasets[project.dataset]
    if (dataset !== undefined)
      dataset.gates = {
        changeVolume: {
          deleted: { percent: 10, atLeast: 100 },
          inserted: { percent: 1, atLeast: 10, verdict: 'hold' },
        },
      }
    return definition
  })
  expect((await project.run(['apply', '--yes'])).code).toBe(0)
  worker.kill('SIGTERM')
  await worker.ended
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  const refused = await project.run(['refresh', project.dataset])
  expect(refused.code).toBe(11)
  expect(refused.stdout).toMatch(/REJECTED/)
  expect(refused.stdout).toMatch(/reject +changeVolume +products/)
  expect(refused.stdout).toContain(`Readers are on ${second}.`)
  await project.database.pool.query('insert into products select * from kept')
})

test('a change that needs a person is held, exit code 10', async () => {
  await project.database.pool.query(
    "insert into products select i, 'sku' || i, 'New ' || i, i, 'cat9' from generate_series(5000, 5100) i",
  )
  const { code, outcome } = await refresh()
  expect(code).toBe(10)
  expect(outcome).toMatchObject({ code: 'HELD', status: 'HELD', active: second })
  await project.database.pool.query('delete from products where id >= 5000')
})

test('rollback takes readers back, quarantines and holds; refreshes are refused until resume', async () => {
  const back = await project.run(['rollback', project.dataset, '--reason', 'names are wrong', '--json'])
  expect(back.code).toBe(0)
  const { from, to } = json<{ from: string; to: string }>(back)
  expect(from).toBe(second)
  const status = json<{ datasets: Array<{ pointer: { active: { tag: string }; quarantined: string[] } }> }>(
    await project.run(['status', project.dataset, '--json']),
  )
  expect(status.datasets[0]?.pointer).toMatchObject({
    active: { tag: to },
    quarantined: [from],
    hold: { reason: 'names are wrong' },
  })
  expect(await refresh()).toMatchObject({ code: 9, outcome: { code: 'ON_HOLD' } })
  const again = await project.run(['rollback', project.dataset, '--to', from, '--reason', 'changed my mind'])
  expect(again.code).toBe(7)
  expect(again.stderr).toContain('VERSION_QUARANTINED')
  // What became of the version has to be said; nothing is changed without.
  const resume = ['resume', project.dataset, '--reason', 'names corrected', '--json']
  expect(json(await project.run(resume))).toMatchObject({
    code: 'USAGE',
    message: expect.stringMatching(/add --keep-quarantine .* or --release v\S+ if it was good/),
    details: { quarantined: [from] },
  })
  expect(await refresh()).toMatchObject({ code: 9 })
  expect(json(await project.run([...resume, '--release', to]))).toMatchObject({ code: 'USAGE' })
  expect(json(await project.run([...resume, '--keep-quarantine']))).toMatchObject({ lifted: true, kept: [from] })
})

test('hold keeps refreshes out, in the registry and in the store; resume lets them in', async () => {
  expect((await project.run(['hold', project.dataset, '--reason', 'a look'])).code).toBe(0)
  const status = await project.run(['status', project.dataset])
  expect(status.stdout).toMatch(/hold +by .*: a look/)
  expect((await refresh()).code).toBe(9)
  expect((await project.run(['resume', project.dataset, '--reason', 'looked'])).stdout).toContain('goes on')
  expect((await project.run(['resume', project.dataset, '--reason', 'looked'])).stdout).toContain('was not on hold')
  expect((await refresh()).code).toBe(0)
})

test('--no-wait returns the workflow id; cancel ends a refresh, and says when there is none', async () => {
  worker.kill('SIGTERM')
  await worker.ended
  const started = await project.run(['refresh', project.dataset, '--full', '--no-wait'])
  expect(started).toMatchObject({ code: 0, stdout: `refresh:${project.dataset}\n` })
  expect(started.stderr).toMatch(/--follow/)
  const cancelling = project.start(['cancel', project.dataset, '--reason', 'the import is wrong', '--json'])
  await cancellationAsked(WORKFLOW_ID.refresh(project.dataset))
  // A drill, too.
  const { dataset } = project
  const workflowId = WORKFLOW_ID.drill(dataset)
  const { taskQueue } = project.temporal
  const args = [{ dataset, noOp: true, reason: 'a rehearsal' }]
  await atTemporal((workflow) => workflow.start('drill', { workflowId, taskQueue, args }))
  const ending = project.start(['drill', dataset, '--end', '--reason', 'not now'])
  await cancellationAsked(workflowId)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  const cancelled = await cancelling.ended
  expect(cancelled.code).toBe(0)
  expect(json(cancelled)).toMatchObject({ cancelled: true })
  expect((await project.run(['cancel', project.dataset])).stdout).toContain('No refresh')
  await ending.ended
  const actor = decodeURIComponent(new URL(project.database.url).username)
  for (const [kind, reason] of [
    ['refresh.cancelled', 'the import is wrong'],
    ['drill.cancelled', 'not now'],
  ] as const)
    expect(await historyEntries(project.database.pool, { dataset, kind })).toMatchObject([
      { actor, detail: { reason } },
    ])
})

test('history has it all, and its chain verifies', async () => {
  const history = json<{ entries: Array<{ kind: string; detail: { reason?: string } }> }>(
    await project.run(['history', project.dataset, '--limit', '1000', '--json']),
  )
  const kinds = history.entries.map(({ kind }) => kind)
  for (const kind of [
    'definition.applied',
    'capture.attached',
    'flip.confirmed',
    'rollback.confirmed',
    'hold',
    'resume',
  ])
    expect(kinds).toContain(kind)
  const chain = json<{ entries: number; anchors: number }>(await project.run(['history', 'verify', '--json']))
  expect(chain.entries).toBeGreaterThanOrEqual(history.entries.length)
  expect(chain.anchors).toBe(1)
  const versions = await project.run(['versions', project.dataset])
  expect(versions.stdout).toMatch(/quarantined/)
})

test('history by version and actor, as CSV; served-at says what readers had', async () => {
  const of = json<{ entries: Array<{ kind: string; version: string; actor: string; at: string }> }>(
    await project.run(['history', project.dataset, '--tag', first, '--limit', '1000', '--json']),
  )
  expect(new Set(of.entries.map(({ version }) => version))).toEqual(new Set([first]))
  const flipped = of.entries.find(({ kind }) => kind === 'flip.confirmed')
  const csv = await project.run(['history', project.dataset, '--actor', flipped?.actor ?? '', '--tag', first, '--csv'])
  const lines = csv.stdout.trimEnd().split('\n')
  expect(lines[0]).toBe('seq,at,dataset,actor,kind,version,detail,hash')
  expect(lines.slice(1).every((line) => line.includes(`,${first},`))).toBe(true)

  const at = new Date(Date.parse(flipped?.at ?? '') + 1).toISOString()
  const served = await project.run(['served-at', project.dataset, at])
  expect(served.code).toBe(0)
  expect(served.stdout).toMatch(new RegExp(`served +${first} of ${project.dataset}`))
  expect(served.stdout).toMatch(RAN_UNDER)
  expect(served.stdout).toContain('within their follow lag (1000 ms unless a reader declares another)')
  expect(json(await project.run(['served-at', project.dataset, at, '--json']))).toMatchObject({ followLagMs: 1000 })
  expect(served.stdout).toMatch(/until +.*, flip to v/)
  expect(served.stdout).toMatch(/approval +none recorded: policy 1 asked for none/)
  expect((await project.run(['served-at', project.dataset, '2020-01-01'])).stdout).toContain('had no version')
  const future = await project.run(['served-at', project.dataset, '2999-01-01'])
  expect(future).toMatchObject({ code: 2, stderr: expect.stringContaining('Expected a time that has passed') })
})

test('incident export writes one bundle, without rows and secrets, and overwrites nothing', async () => {
  const { dataset, folder, database } = project
  const since = ['--since', '2020-01-01']
  const ran = await project.run(['incident', 'export', dataset, ...since, '--out', 'incident.json'])
  expect(ran).toMatchObject({ code: 0, stderr: '' })
  expect(ran.stdout).toMatch(/^Wrote incident\.json: \d+ entries, \d+ moves, \d+ alerts; the chain verifies\.\n$/)
  const text = await readFile(join(folder, 'incident.json'), 'utf8')
  const bundle = incidentSchema.parse(JSON.parse(text))
  expect(bundle.chain).toMatchObject({ verified: true, anchors: 1 })
  const back = bundle.movements.find(({ kind }) => kind === 'rollback')
  expect(bundle.versions.find(({ tag }) => tag === back?.from)?.gates.length).toBeGreaterThan(0)
  expect(bundle.metrics).toContainEqual({ name: 'snapflip_on_hold', labels: { dataset }, value: expect.any(Number) })
  for (const secret of [new URL(database.url).password, 'Product 1']) {
    expect(secret).not.toBe('')
    expect(text).not.toContain(secret)
  }

  const again = await project.run(['incident', 'export', dataset, ...since, '--out', 'incident.json'])
  expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('found that it is there already') })
  const page = await project.run(['incident', 'export', '--flip', back?.flipId ?? '', '--format', 'md'])
  expect(page.stdout).toMatch(new RegExp(`^# Incident: ${dataset}, flip ${back?.flipId}\n`))
  for (const [wrong, found] of [
    [[], 'neither'],
    [[...since, '--flip', back?.flipId ?? ''], 'both'],
    [['--flip', 'x'], '"x"'],
    [[...since, '--until', '2019-01-01'], '2019-01-01'],
  ] as const) {
    const { stderr } = await project.run(['incident', 'export', dataset, ...wrong])
    expect(stderr).toMatch(new RegExp(`^snapflip: USAGE: Expected .*, found ${found}`))
  }
})

test('detach leaves no trigger behind; apply attaches again', async () => {
  const triggers = async () =>
    (
      await project.database.pool.query(
        "select from pg_trigger where tgrelid = 'products'::regclass and not tgisinternal",
      )
    ).rowCount
  expect(await triggers()).toBe(2)
  expect(json(await project.run(['detach', project.dataset, '--json']))).toMatchObject({
    detached: ['public.products'],
  })
  expect(await triggers()).toBe(0)
  const sick = await project.run(['doctor'])
  expect(sick.code).toBe(5)
  expect(sick.stdout).toMatch(/NOT OK +capture public\.products.*\n[\s\S]*To do:\n.*snapflip apply/)
  expect((await project.run(['apply', '--yes'])).stderr).toContain('+ capture on public.products')
  expect(await triggers()).toBe(2)
})

test('a history that was cut together with its head is found out by the anchor in the store', async () => {
  const verify = ['history', 'verify', '--json']
  expect(json(await project.run(verify))).toMatchObject({ anchors: 1, hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
  const noted = json<{ entries: number; hash: string }>(await project.run([...verify, project.dataset]))
  const unlike = await project.run([...verify, '--anchor', `1:${'a1'.repeat(32)}`])
  expect(unlike).toMatchObject({ code: 15, stdout: expect.stringContaining('Expected entry 1 of') })
  expect(await project.run([...verify, '--anchor', '812'])).toMatchObject({ code: 2 })
  // Where the store does not answer, the chain alone is not the whole proof.
  await project.define(withoutStore)
  const alone = await project.run(verify)
  expect(alone.code).toBe(5)
  expect(json(alone)).toMatchObject({ anchors: 0, missing: [{ part: `the anchor of ${project.dataset} in main` }] })
  await project.define((definition) => definition)
  expect((await project.run(['history', 'verify', 'nope'])).code).toBe(3)
  // As a superuser can who means to: back to before the last flip, and nothing in the database shows it.
  await project.database.pool.query(`
    begin; set local session_replication_role = replica;
    alter table snapflip.history disable trigger all; alter table snapflip.history_head disable trigger all;
    delete from snapflip.history where seq >= (select max(seq) from snapflip.history where kind = 'flip.intended');
    update snapflip.history_head set (seq, hash) = (select seq, hash from snapflip.history order by seq desc limit 1);
    commit`)
  const cut = await project.run(verify)
  expect(cut.code).toBe(15)
  expect(json(cut)).toMatchObject({ code: 'HISTORY_BROKEN', message: expect.stringContaining('the tail was cut') })

  // The next flips leave anchors of what was written since; what they found contradicted stays.
  for (const price of [77, 78]) {
    await project.database.pool.query(`update products set price_cents = ${price} where id = 5`)
    expect((await refresh('--reason', 'after the cut')).outcome).toMatchObject({ status: 'FLIPPED' })
  }
  expect(json(await project.run(verify))).toMatchObject({
    code: 'HISTORY_BROKEN',
    message: expect.stringContaining('another hash than its anchor has'),
  })
  const alerts = json<{ entries: object[] }>(
    await project.run(['history', project.dataset, '--kind', 'alert.history_broken', '--json']),
  )
  expect(alerts.entries).toHaveLength(1)
  // Nor is it missed by whoever noted the hash elsewhere, whatever became of the stores.
  const apart = json<{ details: { seq: number } }>(
    await project.run([...verify, '--anchor', `${noted.entries}:${noted.hash}`]),
  )
  expect(apart.details.seq).toBeLessThanOrEqual(noted.entries)
})

test('an anchor that a person accepts is printed by verify, which finds all else as before', async () => {
  const { dataset } = project
  const { pool } = project.database
  const verify = ['history', 'verify', '--json']
  const codeOf = async (...more: string[]) => (await project.run([...verify, ...more])).code
  const accept = (anchor: string, reason = 'restored from Sunday') =>
    project.run(['history', 'accept', dataset, '--anchor', anchor, '--reason', reason, '--json'])
  const [, anchor = '', seq, hash] =
    /does not lead to ((\d+):([0-9a-f]{64})), which/.exec((await project.run(verify)).stderr) ?? []
  const store = await openStore(`file:${join(project.folder, 'versions')}`, { dataset })
  const good = (await store.pointer.read())?.pointer.anchor as Anchor
  await store.close()

  // Not one that no flip left, nor one that the history leads to, nor without a reason.
  for (const other of [`${seq}:${'a1'.repeat(32)}`, `${good.seq}:${good.hash}`])
    expect(json(await accept(other))).toMatchObject({ code: 'USAGE' })
  expect((await accept(anchor, ' ')).code).toBe(2)
  // Who can write to the database alone accepts nothing.
  const forged = { seq: Number(seq), hash, found: null, reason: 'forged' }
  await pool.query(`select snapflip.append_entry($1, 'ana', 'anchor.accepted', null, $2)`, [dataset, forged])
  expect(await codeOf()).toBe(15)

  const accepted = await accept(anchor)
  expect(accepted.code).toBe(0)
  const { entry } = json<{ entry: Anchor }>(accepted)
  const by = (await pool.query('select session_user as by')).rows[0]?.by
  const said = { seq: Number(seq), hash, entry: entry.seq, by, reason: 'restored from Sunday' }
  expect(json(await project.run(verify))).toMatchObject({ accepted: [said] })
  const told = await project.run(['history', 'verify'])
  expect(told).toMatchObject({ code: 0, stdout: expect.stringContaining(`accepted by ${by} at 20`) })
  // Another one is found; so is what is edited later, although every hash of the database is made anew: no flip has left an anchor of it yet.
  expect(await codeOf('--anchor', `1:${'a1'.repeat(32)}`)).toBe(15)
  const rewrite = (actor: string) =>
    pool.query(`
      begin; set local session_replication_role = replica;
      alter table snapflip.history disable trigger all; alter table snapflip.history_head disable trigger all;
      do $$
      declare entry snapflip.history; prev bytea;
      begin
        for entry in select * from snapflip.history where seq >= ${entry.seq - 1} order by seq loop
          entry.actor := case when prev is null then '${actor}' else entry.actor end;
          entry.prev_hash := coalesce(prev, entry.prev_hash);
          entry.hash := sha256(convert_to(snapflip.history_text(entry.seq, entry.at, entry.dataset, entry.actor, entry.kind,
            entry.version, entry.detail, entry.prev_hash), 'UTF8'));
          update snapflip.history set (actor, prev_hash, hash) = (entry.actor, entry.prev_hash, entry.hash) where seq = entry.seq;
          prev := entry.hash;
        end loop;
        update snapflip.history_head set hash = prev;
      end $$;
      commit`)
  await rewrite('nobody')
  expect(await codeOf()).toBe(15)
  await rewrite('ana')
  expect(await codeOf()).toBe(0)
})

test('an incident says what could not be asked', async () => {
  const { dataset } = project
  await project.define(withoutStore)
  const ran = await project.run(['incident', 'export', dataset, '--since', '2020-01-01'])
  const { missing, movements, metrics } = incidentSchema.parse(JSON.parse(ran.stdout))
  expect(movements.every(({ lastReaderAt }) => lastReaderAt === null)).toBe(true)
  expect(metrics.map(({ name }) => name)).not.toContain('snapflip_store_bytes')
  expect(missing.map(({ part }) => part)).toEqual([
    `the anchor of ${dataset} in main`,
    expect.stringMatching(`what readers of ${dataset} reported to redis:`),
    expect.stringMatching('metrics: '),
    expect.stringMatching('metrics: '),
  ])
  expect(missing[0]?.why).toMatch(/failed while reading the pointer/)
})
