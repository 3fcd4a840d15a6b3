import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { adoptStore } from '../../src/registry/adopt-store.ts'
import { confirmedFlips } from '../../src/registry/flips.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { testDatabase } from '../support/services.ts'
import { allocate, applyShop, close, DATASET, open, seal, states } from './shop.ts'

let pool: pg.Pool

beforeEach(async () => {
  const database = await testDatabase({ version: '18' })
  onTestFinished(() => database.drop())
  pool = database.pool
  await applyShop(pool)
})

const ref = (n: number): VersionRef => ({
  tag: `v20260518-0${n}`,
  ordinal: n,
  digest: `${n}`.repeat(64),
  manifest: `${n}`.repeat(64),
})

/** As a pointer after flips to these, the last of them first. */
const at = (epoch: number, active: number, flips: number[], more: Partial<Pointer> = {}): Pointer => {
  const made = flips.map((n) => ({ flipId: randomUUID(), tag: ref(n).tag }))
  return {
    ...emptyPointer(DATASET),
    active: ref(active),
    epoch: { registry: epoch, breakGlass: 0 },
    flipId: made[0]?.flipId ?? null,
    flips: made,
    ...more,
  }
}

/** What the store holds, without what manifests say: they cannot be read. */
const holding = (pointer: Pointer, ...held: number[]) => ({
  url: 'hot',
  pointer,
  tags: held.map((n) => ref(n).tag),
  found: held.map((n) => ({ tag: ref(n).tag, ref: ref(n), manifest: null })),
})

it('a new registry learns from a store which versions there are, and which was active', async () => {
  const pointer = at(7, 4, [4, 5, 2], { quarantined: [ref(5).tag], retired: [ref(1).tag] })
  const adopted = await adoptStore(pool, { dataset: DATASET, store: holding(pointer, 2, 3, 4, 5) })
  expect(adopted).toHaveLength(5)
  expect(await states(pool)).toEqual({
    [ref(1).tag]: 'swept',
    [ref(2).tag]: 'retained',
    // Nothing shows that it passed its gates.
    [ref(3).tag]: 'rejected',
    [ref(4).tag]: 'active',
    [ref(5).tag]: 'quarantined',
  })
  expect((await confirmedFlips(pool, DATASET, 9)).map(({ kind, from, to, epoch }) => [kind, from, to, epoch])).toEqual([
    ['rollback', ref(5).tag, ref(4).tag, 7],
  ])
  await verifyHistory(pool)

  // Above all that the store has seen.
  const next = await allocate(pool, await open(pool))
  expect(next).toEqual({ tag: 'v20260518-06', ordinal: 7 })
  const intent = {
    flipId: randomUUID(),
    dataset: DATASET,
    from: ref(4).tag,
    to: ref(2).tag,
    reason: 'test',
    actor: null,
  }
  expect(await intendFlip(pool, { ...intent, kind: 'rollback' })).toMatchObject({ epoch: { registry: 8 } })

  const entries = await historyEntries(pool, { dataset: DATASET, limit: 100 })
  expect(await adoptStore(pool, { dataset: DATASET, store: holding(pointer, 2, 3, 4, 5) })).toEqual([])
  expect(await historyEntries(pool, { dataset: DATASET, limit: 100 })).toHaveLength(entries.length)
})

it('a version that was building when the registry was copied is the one that the store has', async () => {
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  expect(await adoptStore(pool, { dataset: DATASET, store: holding(at(1, 1, [1]), 1) })).toEqual([tag])
  expect(await states(pool)).toEqual({ [tag]: 'active' })
  // The refresh that was open then is not the one that sealed it.
  await expect(sealVersion(pool, seal(tag))).rejects.toMatchObject({ code: 'SUPERSEDED' })
  await close(pool, refreshId)
  expect(await states(pool)).toEqual({ [tag]: 'active' })
})

it('a version that only the lost part of the registry retired is retired', async () => {
  await adoptStore(pool, { dataset: DATASET, store: holding(at(2, 2, [2, 1]), 1, 2) })
  await adoptStore(pool, { dataset: DATASET, store: holding(at(3, 3, [3, 2, 1]), 2, 3) })
  expect(await states(pool)).toEqual({ [ref(1).tag]: 'retired', [ref(2).tag]: 'retained', [ref(3).tag]: 'active' })
})
