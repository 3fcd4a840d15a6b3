import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import { requireApplied } from '../../src/registry/current-definition.ts'
import { detachDataset } from '../../src/registry/detach-dataset.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { neededWatermarks } from '../../src/registry/needed-watermarks.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { testDatabase } from '../support/services.ts'
import { allocate, applyShop, close, DATASET, definition, open, seal } from './shop.ts'

let pool: pg.Pool

beforeEach(async () => {
  const database = await testDatabase({ version: '18' })
  onTestFinished(() => database.drop())
  pool = database.pool
  await applyShop(pool)
})

/** A closed refresh whose version is in this state; the id of its watermark, which is in the database's history unless `gone`. */
async function kept({ gone = false, state = 'retained' } = {}): Promise<string> {
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  const mine = seal(tag)
  await sealVersion(pool, mine)
  await close(pool, refreshId, 'FLIPPED', tag)
  await pool.query('update snapflip.index_versions set state = $2 where tag = $1', [tag, state])
  const { id } = mine.watermark
  if (!gone) await taken(id)
  return id
}

/** In the database's history. */
async function taken(id: string = randomUUID()): Promise<string> {
  await pool.query(
    `insert into snapflip.watermarks (id, snapshot, xid, nonce, system, at, kind, facts)
     values ($1, '10:20:11,12', '20', decode($2, 'hex'), 'a test', clock_timestamp(), 'version', '[]')`,
    [id, randomUUID().replaceAll('-', '')],
  )
  return id
}

const detached = () => detachDataset(pool, { dataset: DATASET, by: 'ana', tables: [], kept: [] })

it('the watermarks of kept versions are needed, but one that is not in the history stops no pruning', async () => {
  const id = await kept()
  await kept({ gone: true })
  expect(await neededWatermarks(pool)).toEqual([id])
})

it('versions that readers will not go back to by themselves hold no pruning back', async () => {
  const id = await kept({ state: 'active' })
  for (const state of ['held', 'quarantined', 'rejected', 'retired']) await kept({ state })
  expect(await neededWatermarks(pool)).toEqual([id])
})

it('an open refresh needs all that was taken since it began until its version is sealed; then that of its version, however long it waits', async () => {
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  const mine = seal(tag)
  const ids = [await taken(), await taken(mine.watermark.id)]
  expect((await neededWatermarks(pool)).toSorted()).toEqual(ids.toSorted())
  await sealVersion(pool, mine)
  expect(await neededWatermarks(pool)).toEqual([mine.watermark.id])
})

it('a detached dataset needs no watermark, until it is applied again', async () => {
  const id = await kept()
  await detached()
  expect(await neededWatermarks(pool)).toEqual([])
  await applyShop(pool)
  expect(await neededWatermarks(pool)).toEqual([id])
})

it('no refresh of a detached dataset opens until it is applied again, and none that is open is detached', async () => {
  await detached()
  await expect(requireApplied(pool, { dataset: DATASET, definition: definition() })).rejects.toMatchObject({
    code: 'NOT_APPLIED',
    message: expect.stringMatching(/found it detached at .*snapflip apply shop/),
  })
  await expect(open(pool)).rejects.toMatchObject({ code: 'NOT_APPLIED' })
  await applyShop(pool)
  const [last] = await historyEntries(pool, { dataset: DATASET, limit: 1 })
  expect(last).toMatchObject({ kind: 'definition.applied', detail: { number: 1 } })
  await requireApplied(pool, { dataset: DATASET, definition: definition() })
  await open(pool)
  await expect(detached()).rejects.toMatchObject({ code: 'REFRESH_RUNNING' })
})
