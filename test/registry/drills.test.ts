import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { beginDrill, endDrill, openDrillOf } from '../../src/registry/drills.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { testDatabase } from '../support/services.ts'
import { applyShop, aRefresh, close, DATASET, flipped, open } from './shop.ts'

test('while a drill is open no refresh opens, nor another drill; while a refresh is open, no drill', async () => {
  const { pool, drop } = await testDatabase()
  await applyShop(pool)
  const from = await flipped(pool, null)
  const refreshId = await open(pool)
  const begin = (drillId: string) =>
    beginDrill(pool, { drillId, dataset: DATASET, from, to: from, by: 'ana', reason: 'the monthly one' })
  const drillId = randomUUID()
  await expect(begin(drillId)).rejects.toMatchObject({ code: 'REFRESH_RUNNING' })
  await close(pool, refreshId)
  await begin(drillId)
  await begin(drillId)
  await expect(begin(randomUUID())).rejects.toMatchObject({ code: 'REFRESH_RUNNING', details: { drillId } })
  await expect(openRefresh(pool, aRefresh())).rejects.toMatchObject({ code: 'REFRESH_RUNNING', details: { drillId } })
  await endDrill(pool, { dataset: DATASET, drillId, outcome: 'DONE', times: {}, summary: 'back' })
  expect(await openDrillOf(pool, DATASET)).toBeNull()
  await openRefresh(pool, aRefresh())
  await drop()
})
