import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { beforeEach, describe, expect, it } from 'vitest'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { servedAt } from '../../src/registry/served-at.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { postgresVersions, testDatabase } from '../support/services.ts'
import { applyShop, DATASET, flipped, move } from './shop.ts'

describe.each(postgresVersions)('PostgreSQL %s: what was served', (postgres) => {
  let pool: pg.Pool

  beforeEach(async () => {
    const database = await testDatabase({ version: postgres })
    pool = database.pool
    await applyShop(pool)
    return database.drop
  })

  const now = async () => (await pool.query<{ now: Date }>('select clock_timestamp() as now')).rows[0]?.now as Date
  /** Times of the registry have microseconds, those of JavaScript none: a moment later than both. */
  const afterwards = async () => {
    const at = new Date((await now()).getTime() + 1)
    while ((await now()) <= at);
    return at
  }

  it('names the version of each moment, who took readers there and who took them away', async () => {
    const before = await now()
    const first = await flipped(pool, null)
    const onFirst = await afterwards()
    const second = await flipped(pool, first)
    const onSecond = await afterwards()
    await move(pool, { kind: 'rollback', from: second, to: first })
    const back = await afterwards()

    expect(await servedAt(pool, DATASET, before)).toMatchObject({ version: null, flip: null, next: { to: first } })
    expect(await servedAt(pool, DATASET, onFirst)).toMatchObject({
      version: { tag: first },
      flip: { kind: 'flip', to: first },
      next: { to: second },
      underWay: null,
      refresh: { tag: first, requestedBy: 'temporal:test' },
    })
    expect(await servedAt(pool, DATASET, onSecond)).toMatchObject({
      version: { tag: second, parent: first },
      next: { kind: 'rollback', to: first, actor: 'ana' },
    })
    expect(await servedAt(pool, DATASET, back)).toMatchObject({
      version: { tag: first },
      flip: { kind: 'rollback', from: second, actor: 'ana' },
      next: null,
    })
  })

  it('says that a flip was under way, and nothing of one that was refused', async () => {
    const first = await flipped(pool, null)
    const second = await flipped(pool, first)
    const flipId = randomUUID()
    const wanted = {
      flipId,
      dataset: DATASET,
      kind: 'rollback',
      from: second,
      to: first,
      reason: 'x',
      actor: 'ana',
    } as const
    await intendFlip(pool, wanted)
    const between = await afterwards()
    const during = { version: { tag: second }, underWay: { flipId, outcome: null } }
    expect(await servedAt(pool, DATASET, between)).toMatchObject(during)
    await settleFlip(pool, { flipId, outcome: 'confirmed', detail: {} })
    expect(await servedAt(pool, DATASET, between)).toMatchObject({
      ...during,
      underWay: { flipId, outcome: 'confirmed' },
    })

    const refused = randomUUID()
    const third = await flipped(pool, first)
    await intendFlip(pool, { ...wanted, flipId: refused, from: third, to: first })
    const later = await afterwards()
    await settleFlip(pool, { flipId: refused, outcome: 'refused', detail: {} })
    expect(await servedAt(pool, DATASET, later)).toMatchObject({ version: { tag: third }, underWay: null })
  })
})
