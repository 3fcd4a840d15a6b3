import { expect, it } from 'vitest'
import { outsideWindow } from '../../activities/window.ts'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode } from '../../src/core/failure.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { neededWatermarks } from '../../src/registry/needed-watermarks.ts'
import { progressQuery } from '../../workflows/steps.ts'
import { makeWorld, type World } from '../support/world.ts'

const SCHEMA = `create table items (id integer primary key, n integer not null);
  insert into items select g, g from generate_series(1, 100) g`
const indexes = { items: { from: 'public.items', key: 'id', value: 'n' } }

const hour = (ahead: number) => `${String((new Date().getUTCHours() + ahead + 24) % 24).padStart(2, '0')}:00`
const OPEN = { open: [{ from: hour(-1), to: hour(2) }] }
const CLOSED = { open: [{ from: hour(2), to: hour(3) }] }

const definitionOf = (world: World) => world.config.datasets[world.dataset] as DatasetDefinition
function declare(world: World, windows: object): Promise<void> {
  const { windows: parsed } = datasetSchema.parse({ ...definitionOf(world), windows })
  Object.assign(definitionOf(world), { windows: parsed })
  return world.apply()
}
const rows = async (world: World, sql: string) => (await world.pool.query(sql)).rows

it('outside its windows a refresh is skipped or waits, as declared; a person may override that, and the history says why', async () => {
  const world = await makeWorld({ schema: SCHEMA, dataset: { indexes, windows: { ...CLOSED, outside: 'skip' } } })
  await world.worker()
  const skipped = await world.refresh()
  expect(skipped).toMatchObject({
    status: 'SKIPPED',
    tag: null,
    summary: expect.stringContaining('windows are closed'),
  })
  expect(await rows(world, 'select status, summary from snapflip.refresh_runs')).toEqual([
    { status: 'SKIPPED', summary: skipped.summary },
  ])

  expect(failureCode(await world.refreshFailure({ outsideWindow: true }))).toBe('USAGE')
  const overridden = await world.refresh({ outsideWindow: true, reason: 'wrong prices' })
  expect(overridden).toMatchObject({ status: 'FLIPPED' })
  const opened = `select detail ->> 'reason' as reason, detail -> 'outsideWindow' as outside from snapflip.history where kind = 'refresh.opened' order by seq desc limit 1`
  expect(await rows(world, opened)).toEqual([{ reason: 'wrong prices', outside: true }])

  await declare(world, { ...CLOSED, outside: 'wait' })
  const waiting = world.refresh().catch((error: unknown) => error)
  const handle = world.client.workflow.getHandle(WORKFLOW_ID.refresh(world.dataset))
  await waitUntil('the refresh to wait', async () =>
    (await handle.query(progressQuery)).summary.includes('waits: its windows are closed until') ? true : undefined,
  )
  // Nothing is opened: what waits keeps neither versions nor changes.
  expect(await rows(world, 'select id from snapflip.refresh_runs where closed_at is null')).toEqual([])
  await handle.cancel()
  expect(await waiting).toMatchObject({ cause: { name: 'CancelledFailure' } })
})

it('a refresh that waits looks again when its windows open, and every hour: they may be other ones by then', () => {
  const at = new Date('2026-05-18T00:00:00Z')
  const waits = (from: string) => {
    const windows = { open: [{ from, to: '23:00' }], outside: 'wait' }
    const outside = outsideWindow(datasetSchema.parse({ stores: ['main'], indexes, windows }), at)
    return Math.floor((outside?.waitMs ?? 0) / 60_000)
  }
  expect([waits('00:10'), waits('22:00')]).toEqual([10, 60])
})

it('a window that closes under way lets the refresh finish, or keeps what it sealed; the next one takes that up', async () => {
  const world = await makeWorld({
    schema: SCHEMA,
    dataset: { indexes, windows: { ...OPEN, onClose: 'keepCandidate' } },
  })
  let duringBuild = async () => {}
  let duringCanary = async () => {}
  let plans = 0
  await world.worker(
    (deps) => ({
      ...deps,
      builder: async () => {
        await duringBuild()
        return deps.builder()
      },
    }),
    {
      decorateActivities: (activities) => ({
        ...activities,
        plan: async (request) => (plans++ === 0 ? { waitMs: 50, summary: 'waits' } : activities.plan(request)),
        watchCanary: async (request) => {
          expect((await world.pointer()).candidate).not.toBeNull()
          await duringCanary()
          return activities.watchCanary(request)
        },
      }),
    },
  )
  const closing = (onClose: string) => () => declare(world, { ...CLOSED, onClose })
  const reopened = async (onClose: string) => {
    duringBuild = async () => {}
    await declare(world, { ...OPEN, onClose })
  }
  const first = await world.refresh()
  expect(first).toMatchObject({ status: 'FLIPPED' })
  // It waited once, and planned when that was over.
  expect(plans).toBe(2)

  await world.pool.query('update items set n = 0 where id = 1')
  duringBuild = closing('keepCandidate')
  const kept = await world.refresh()
  expect(kept).toMatchObject({ status: 'KEPT', active: first.tag, summary: expect.stringContaining('window closed') })
  expect(await rows(world, `select tag from snapflip.index_versions where state = 'sealed'`)).toEqual([
    { tag: kept.tag },
  ])

  // Of any dataset: the changes since the kept version's watermark stay until it was taken up.
  const [{ id } = { id: '' }] = await rows(
    world,
    `select watermark ->> 'id' as id from snapflip.index_versions where state = 'sealed'`,
  )
  expect(await neededWatermarks(world.pool)).toContain(id)

  // A refresh that fails in between discards what failed ones left, and not this.
  await reopened('keepCandidate')
  duringBuild = async () => {
    throw new SnapflipError('PRIVILEGE_MISSING', 'a test')
  }
  expect(failureCode(await world.refreshFailure())).toBe('PRIVILEGE_MISSING')
  await reopened('keepCandidate')
  const begun = await rows(world, 'select count(*) from snapflip.builds')
  const taken = await world.refresh()
  expect(taken).toMatchObject({ status: 'FLIPPED', tag: kept.tag, active: kept.tag })
  expect(await rows(world, 'select count(*) from snapflip.builds')).toEqual(begun)
  // Judged anew: the source it was compared with has moved on since.
  const judgedBy = `select distinct refresh_id as id from snapflip.gate_verdicts where tag = '${kept.tag}'`
  expect(await rows(world, judgedBy)).toEqual([{ id: taken.refreshId }])

  // While some readers have it: they go back, and it is a candidate anew in the next window.
  const { canary } = datasetSchema.parse({ ...definitionOf(world), canary: { share: 0.5, forMs: 1_000 } })
  Object.assign(definitionOf(world), { canary })
  await reopened('keepCandidate')
  await world.pool.query('update items set n = -1 where id = 2')
  duringCanary = closing('keepCandidate')
  const compared = await world.refresh()
  expect(compared).toMatchObject({ status: 'KEPT', active: kept.tag })
  expect((await world.pointer()).candidate).toBeNull()
  duringCanary = async () => {}
  await reopened('keepCandidate')
  expect(await world.refresh()).toMatchObject({ status: 'FLIPPED', tag: compared.tag })
  const canaries = `select outcome from snapflip.canaries where tag = '${compared.tag}' order by epoch`
  expect(await rows(world, canaries)).toEqual([{ outcome: 'ended' }, { outcome: 'flipped' }])
  delete definitionOf(world).canary
  await reopened('keepCandidate')

  await world.pool.query('update items set n = 0 where id = 2')
  duringBuild = closing('keepCandidate')
  const old = await world.refresh()
  expect(old).toMatchObject({ status: 'KEPT' })
  await reopened('finish')
  await world.pool.query('update items set n = 0 where id = 3')
  duringBuild = closing('finish')
  const newer = await world.refresh()
  expect(newer).toMatchObject({ status: 'FLIPPED' })
  expect(newer.tag).not.toBe(old.tag)
  const parents = `select parent from snapflip.index_versions where tag = '${newer.tag}'`
  expect(await rows(world, parents)).toEqual([{ parent: compared.tag }])
})
