import type pg from 'pg'
import { beforeEach, expect, it } from 'vitest'
import { requireNotLeft } from '../../activities/require-not-left.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { flips } from '../../src/registry/flips.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { testDatabase } from '../support/services.ts'
import { applyShop, DATASET, flipped } from './shop.ts'

let pool: pg.Pool
let first: string
let second: string
let third: string

/** As an alert of a store leaves it that was repaired, and had readers on this version. */
const repaired = (tag: string, more: object = {}) =>
  recordEvent(pool, {
    dataset: DATASET,
    actor: null,
    kind: 'alert.store_rebound',
    detail: { stored: { tag }, ...more },
  })

const leave = (from: string, askedAt: string | null) =>
  requireNotLeft(
    pool,
    { dataset: DATASET, reason: 'bad', from },
    { pointer: emptyPointer(DATASET), active: third, askedAt },
  )

beforeEach(async () => {
  const { pool: database, drop } = await testDatabase()
  pool = database
  await applyShop(pool)
  first = await flipped(pool, null)
  second = await flipped(pool, first)
  third = await flipped(pool, second)
  return drop
})

it('what a person saw before a repair may be taken back; not by what takes back its own flip, nor by one who asked before readers came', async () => {
  await repaired(second)
  const [last] = await flips(pool, DATASET, 1)
  const before = new Date((last?.intendedAt.getTime() ?? 0) - 1_000).toISOString()
  const now = new Date().toISOString()
  await leave(second, now)
  for (const [from, askedAt] of [
    [second, null],
    [second, before],
    [first, now],
  ] as const)
    await expect(leave(from, askedAt)).rejects.toMatchObject({ code: 'CONFLICT', details: { expected: from } })
})

it('what a further store had before it was repaired is what nobody saw', async () => {
  await repaired(second, { store: 'redis://copy:6379' })
  await expect(leave(second, new Date().toISOString())).rejects.toMatchObject({ code: 'CONFLICT' })
})
