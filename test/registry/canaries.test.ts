import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { canaryOf } from '../../src/registry/canaries.ts'
import { endCanary } from '../../src/registry/end-canary.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { hold } from '../../src/registry/hold.ts'
import { intendCanary } from '../../src/registry/intend-canary.ts'
import { judgeCanary } from '../../src/registry/judge-canary.ts'
import { retire } from '../../src/registry/retire.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { version } from '../../src/registry/version.ts'
import { waive } from '../../src/registry/waive.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { allocate, applyShop, close, DATASET, flipped, gate, judge, move, open, passed, seal, states } from './shop.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await testDatabase()
  await applyShop(database.pool)
})
afterEach(() => database.drop())

async function begin({ refreshId, tag }: { refreshId: string; tag: string }, canaryId: string = randomUUID()) {
  const { manifestSha256 } = await version(database.pool, DATASET, tag)
  const intent = { canaryId, dataset: DATASET, refreshId, tag, share: 0.1, salt: 's', forMs: 60_000 }
  return intendCanary(database.pool, { ...intent, manifestSha256: manifestSha256 as string })
}
const kinds = async () =>
  (await historyEntries(database.pool, { dataset: DATASET, kind: 'canary' })).map(({ kind }) => kind).reverse()

it('only a version that passed every other gate becomes a candidate, while its refresh is open and nothing is on hold', async () => {
  const { pool } = database
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  await sealVersion(pool, seal(tag))
  await expect(begin({ refreshId, tag })).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  await judge(pool, refreshId, tag, [gate('pass'), gate('reject', 'drift')])
  await expect(begin({ refreshId, tag })).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  await close(pool, refreshId, 'REJECTED', tag)

  const good = await passed(pool)
  await hold(pool, { dataset: DATASET, by: 'ana', reason: 'test' })
  await expect(begin(good)).rejects.toMatchObject({ code: 'ON_HOLD' })
  await pool.query('update snapflip.dataset_holds set lifted_at = clock_timestamp(), lifted_by = $1', ['ana'])
  await close(pool, good.refreshId)
  await expect(begin(good)).rejects.toMatchObject({ code: 'SUPERSEDED' })
  expect(await kinds()).toEqual([])
})

it('begun twice it is one canary, with an epoch that no flip gets; another waits for its end', async () => {
  const first = await flipped(database.pool, null)
  const built = await passed(database.pool, first)
  const canary = await begin(built)
  expect(await begin(built, canary.canaryId)).toMatchObject({ epoch: canary.epoch, outcome: null })
  await expect(begin(built)).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  expect(await kinds()).toEqual(['canary.begun'])
  await expect(retire(database.pool, { dataset: DATASET, tag: built.tag, why: 'test' })).rejects.toMatchObject({
    code: 'CONFLICT',
  })
})

it('a candidate is flipped to only when its canary was judged, which that ends', async () => {
  const { pool } = database
  const first = await flipped(pool, null)
  const built = await passed(pool, first)
  const { canaryId } = await begin(built)
  const flip = () => move(pool, { kind: 'flip', from: first, to: built.tag, refreshId: built.refreshId })
  await expect(flip()).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
  expect(await judgeCanary(pool, { canaryId, result: gate('pass', 'canary') })).toBe('pass')
  // The first verdict stands.
  expect(await judgeCanary(pool, { canaryId, result: gate('reject', 'canary') })).toBe('pass')
  await flip()
  expect(await canaryOf(pool, canaryId)).toMatchObject({ outcome: 'flipped' })
  expect(await states(pool)).toMatchObject({ [built.tag]: 'active' })
  await endCanary(pool, { canaryId, why: 'late' })
  expect(await canaryOf(pool, canaryId)).toMatchObject({ outcome: 'flipped' })
})

it('a refused candidate is rejected or held, unless a person waived that', async () => {
  const { pool } = database
  const first = await flipped(pool, null)
  for (const [verdict, state] of [
    ['reject', 'rejected'],
    ['hold', 'held'],
  ] as const) {
    const built = await passed(pool, first)
    const { canaryId } = await begin(built)
    expect(await judgeCanary(pool, { canaryId, result: gate(verdict, 'canary') })).toBe(verdict)
    expect(await states(pool)).toMatchObject({ [built.tag]: state })
    expect(await canaryOf(pool, canaryId)).toMatchObject({ outcome: 'refused' })
    const flip = move(pool, { kind: 'flip', from: first, to: built.tag, refreshId: built.refreshId })
    await expect(flip).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    await close(pool, built.refreshId, 'REJECTED', built.tag)
  }
  const [refused] = Object.entries(await states(pool)).find(([, state]) => state === 'rejected') ?? ['']
  const until = new Date(Date.now() + 3_600_000)
  await waive(pool, { dataset: DATASET, tag: refused, gate: 'canary', until, reason: 'misses are expected' })
  // The same content, built again.
  const { digest } = await version(pool, DATASET, refused)
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  await sealVersion(pool, seal(tag, { digest: digest as string }))
  await judge(pool, refreshId, tag, [gate('pass')])
  const { canaryId } = await begin({ refreshId, tag })
  expect(await judgeCanary(pool, { canaryId, result: gate('reject', 'canary') })).toBe('warn')
  await move(pool, { kind: 'flip', from: first, to: tag, refreshId })
})

it('a rollback ends the canary of another version, which is sealed again', async () => {
  const { pool } = database
  const first = await flipped(pool, null)
  const second = await flipped(pool, first)
  const built = await passed(pool, second)
  const { canaryId } = await begin(built)
  await move(pool, { kind: 'rollback', from: second, to: first })
  expect(await canaryOf(pool, canaryId)).toMatchObject({ outcome: 'ended' })
  expect(await states(pool)).toMatchObject({ [built.tag]: 'sealed' })
  await expect(judgeCanary(pool, { canaryId, result: gate('pass', 'canary') })).rejects.toMatchObject({
    code: 'CONFLICT',
  })
  expect(await kinds()).toEqual(['canary.begun', 'canary.ended'])
})
