import { randomUUID } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import type { BreakGlassEntry, Pointer } from '../../schemas/pointer.ts'
import { bakePolicySchema } from '../../schemas/watch.ts'
import { applyChange } from '../../src/core/pointer.ts'
import { absorb } from '../../src/registry/absorb.ts'
import { activeHold } from '../../src/registry/active-hold.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { bakeOf, unstartedBakes } from '../../src/registry/bakes.ts'
import { flips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { retire } from '../../src/registry/retire.ts'
import { servedAt } from '../../src/registry/served-at.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { applyShop, DATASET, definition, flipped, passed, states } from './shop.ts'

let database: TestDatabase
let v1: string
let v2: string
let v3: string

beforeEach(async () => {
  database = await testDatabase()
  await applyShop(database.pool)
  v1 = await flipped(database.pool, null)
  v2 = await flipped(database.pool, v1)
  v3 = await flipped(database.pool, v2)
  return () => database.drop()
})

async function known(): Promise<Pointer> {
  const pointer = await knownPointer(database.pool, DATASET)
  if (pointer === null) throw new Error('nothing was flipped')
  return pointer
}

/** A rollback in the store alone. */
function broken(pointer: Pointer, to: Pointer['active'], at: string): Pointer {
  const { active, epoch } = pointer
  if (active === null || to === null) throw new Error('expected two versions')
  const change = {
    kind: 'breakGlass',
    flipId: randomUUID(),
    expected: { tag: active.tag, epoch },
    to,
    freshAsOf: null,
    by: 'ana@desk',
    reason: `bad at ${at}`,
    at,
    rebound: false,
  } as const
  const made = applyChange(pointer, change, DATASET)
  if (made.outcome !== 'applied') throw new Error(`expected a rollback, found ${JSON.stringify(made)}`)
  return made.pointer
}

const take = (pointer: Pointer) => absorb(database.pool, { dataset: DATASET, store: 'file:x', pointer })

test('two rollbacks that were made without the registry become flips, quarantines, a hold and history, as of when they were made; again, nothing', async () => {
  const before = await known()
  const second = broken(before, before.previous, new Date(Date.now() + 60_000).toISOString())
  const ref1 = (
    await database.pool.query(
      'select tag, ordinal, digest, manifest_sha256 as manifest from snapflip.index_versions where tag = $1',
      [v1],
    )
  ).rows[0] as Pointer['active']
  const third = broken(second, ref1, new Date(Date.now() + 120_000).toISOString())
  expect(await take(third)).toEqual({ outcome: 'absorbed', flipIds: third.breakGlass.map(({ flipId }) => flipId) })

  expect(await states(database.pool)).toEqual({ [v1]: 'active', [v2]: 'quarantined', [v3]: 'quarantined' })
  const { anchor: _anchor, freshAsOf: _fresh, breakGlass, ...stored } = third
  expect(await known()).toMatchObject({ ...stored, quarantined: expect.arrayContaining([v2, v3]) })
  expect(await activeHold(database.pool, DATASET)).toEqual(third.hold)
  expect(third.hold?.by).toBe('break-glass:ana@desk')
  const [last, first] = breakGlass as [BreakGlassEntry, BreakGlassEntry]
  const [made, earlier] = await flips(database.pool, DATASET)
  expect(made).toMatchObject({
    kind: 'rollback',
    from: v2,
    to: v1,
    epoch: before.epoch.registry,
    breakGlass: last.epoch.breakGlass,
    actor: 'break-glass:ana@desk',
    outcome: 'confirmed',
    settledAt: new Date(last.at),
  })
  expect(earlier).toMatchObject({ from: v3, to: v2, settledAt: new Date(first.at) })
  const kinds = (await historyEntries(database.pool, { dataset: DATASET, kind: 'rollback' })).map(({ kind }) => kind)
  expect(kinds).toEqual(['rollback.confirmed', 'rollback.absorbed', 'rollback.confirmed', 'rollback.absorbed'])
  // What was served then is told by when they were made.
  expect((await servedAt(database.pool, DATASET, new Date(Date.parse(first.at) + 1))).version?.tag).toBe(v2)
  expect((await servedAt(database.pool, DATASET, new Date(Date.parse(last.at) + 1))).version?.tag).toBe(v1)

  expect(await take(third)).toMatchObject({ outcome: 'absorbed' })
  expect(await historyEntries(database.pool, { dataset: DATASET, kind: 'rollback' })).toHaveLength(kinds.length)
  await verifyHistory(database.pool)
})

test('nothing is taken over while a flip is open, nor from a store that lacks the last flip', async () => {
  const before = await known()
  const behind = broken(before, before.previous, new Date().toISOString())
  const { refreshId, tag } = await passed(database.pool, v3)
  const flipId = randomUUID()
  const open = {
    flipId,
    dataset: DATASET,
    kind: 'flip',
    from: v3,
    to: tag,
    reason: null,
    actor: null,
    refreshId,
  } as const
  await intendFlip(database.pool, open)
  expect(await take(behind)).toEqual({ outcome: 'openFlip' })
  await database.pool.query("update snapflip.flip_intents set outcome = 'refused', settled_at = now() where id = $1", [
    flipId,
  ])
  await database.pool.query("update snapflip.refresh_runs set closed_at = now(), status = 'FAILED'")
  await flipped(database.pool, v3)
  expect(await take(behind)).toEqual({ outcome: 'behind' })
  expect(await activeHold(database.pool, DATASET)).toBeNull()
})

test('a version whose retirement had not reached the pointer is active again where a rollback went to it', async () => {
  const before = await known()
  const ref1 = { ...(before.previous as NonNullable<Pointer['previous']>), tag: v1, ordinal: 1 }
  await retire(database.pool, { dataset: DATASET, tag: v1, why: 'age' })
  expect(await take(broken(before, ref1, new Date().toISOString()))).toMatchObject({ outcome: 'absorbed' })
  expect(await states(database.pool)).toEqual({ [v1]: 'active', [v2]: 'retained', [v3]: 'quarantined' })
})

test('a rollback that was made without the registry bakes for what is left of the time, counted from when it was made', async () => {
  const forMs = 3_600_000
  const declared = { ...definition(), bake: bakePolicySchema.parse({ forMs }) }
  await applyDefinition(database.pool, { dataset: DATASET, definition: declared })
  const made = async (agoMs: number) => {
    const at = new Date(Date.now() - agoMs)
    const before = await known()
    const pointer = broken(before, before.previous, at.toISOString())
    await take(pointer)
    const [flip] = await flips(database.pool, DATASET, 1)
    expect(flip).toMatchObject({ flipId: pointer.flipId, kind: 'rollback' })
    return { flipId: pointer.flipId, until: flip?.bakeUntil, due: new Date(at.getTime() + forMs) }
  }
  const ahead = await made(forMs / 2)
  expect(ahead.until).toEqual(ahead.due)
  expect(await unstartedBakes(database.pool, [DATASET])).toEqual([{ dataset: DATASET, flipId: ahead.flipId, tag: v2 }])
  expect((await bakeOf(database.pool, ahead.flipId as string))?.elapsedMs).toBeGreaterThanOrEqual(forMs / 2)
  const past = await made(forMs)
  expect(past.until).toBeNull()
  expect(await unstartedBakes(database.pool, [DATASET])).toEqual([])
})
