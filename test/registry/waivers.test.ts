import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { goodVersions } from '../../src/registry/good-versions.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { quarantine } from '../../src/registry/quarantine.ts'
import { reopenWaived } from '../../src/registry/reopen-waived.ts'
import { retirable } from '../../src/registry/retirable.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { standingRefusal } from '../../src/registry/standing-refusal.ts'
import { version } from '../../src/registry/version.ts'
import { waive } from '../../src/registry/waive.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { allocate, applyShop, close, DATASET, definition, flipped, gate, judge, open, seal } from './shop.ts'

let database: TestDatabase
beforeEach(async () => {
  database = await testDatabase()
  await applyShop(database.pool)
})
afterEach(() => database.drop())

const digest = 'ab'.repeat(32)

/** Builds a version of this content and has it judged. */
async function judged(results: Parameters<typeof judge>[3]): Promise<{ refreshId: string; tag: string }> {
  const { pool } = database
  const refreshId = await open(pool)
  const { tag } = await allocate(pool, refreshId)
  await sealVersion(pool, seal(tag, { digest }))
  await judge(pool, refreshId, tag, results)
  return { refreshId, tag }
}
const refusedBy = [gate('reject', 'changeVolume'), gate('hold', 'drift'), gate('pass')]
const forAnHour = (tag: string, name: string) =>
  waive(database.pool, { dataset: DATASET, tag, gate: name, until: new Date(Date.now() + 3_600_000), reason: 'seen' })
const flipTo = (tag: string, refreshId: string) =>
  intendFlip(database.pool, {
    flipId: randomUUID(),
    dataset: DATASET,
    kind: 'flip',
    from: null,
    to: tag,
    reason: null,
    actor: null,
    refreshId,
  })

it('what is waived stays until the waiver ends: the next refresh takes it up', async () => {
  const { refreshId, tag } = await judged(refusedBy)
  await close(database.pool, refreshId, 'REJECTED', tag)
  const beyond = () => retirable(database.pool, { dataset: DATASET, keep: 0, olderThanMs: 0 })
  expect(await beyond()).toEqual([tag])
  await forAnHour(tag, 'drift')
  expect(await beyond()).toEqual([])
  await database.pool.query(
    "update snapflip.waivers set since = now() - interval '2 hours', until = now() - interval '1 hour'",
  )
  expect(await beyond()).toEqual([tag])
})

it('a waiver is for one gate: the others still refuse the version', async () => {
  const { refreshId, tag } = await judged(refusedBy)
  await close(database.pool, refreshId, 'REJECTED', tag)
  await forAnHour(tag, 'changeVolume')
  const next = await open(database.pool)
  expect(await reopenWaived(database.pool, { dataset: DATASET, refreshId: next, parent: null })).toBeNull()
  await forAnHour(tag, 'drift')
  expect(await reopenWaived(database.pool, { dataset: DATASET, refreshId: next, parent: 'v20260518-09' })).toBeNull()
  expect(await reopenWaived(database.pool, { dataset: DATASET, refreshId: next, parent: null })).toMatchObject({
    tag,
    state: 'sealed',
    refreshId: next,
  })
})

it('a waiver holds for the content: another tag with the same digest passes, until it ends', async () => {
  const first = await judged(refusedBy)
  await close(database.pool, first.refreshId, 'REJECTED', first.tag)
  await forAnHour(first.tag, 'changeVolume')
  await forAnHour(first.tag, 'drift')
  const { refreshId, tag } = await judged(refusedBy)
  expect(await version(database.pool, DATASET, tag)).toMatchObject({ state: 'sealed' })
  expect(
    (await gateResults(database.pool, DATASET, tag)).map(({ verdict, waived }) => [verdict, waived?.reason]),
  ).toEqual([
    ['reject', 'seen'],
    ['hold', 'seen'],
    ['pass', undefined],
  ])
  await database.pool.query(
    "update snapflip.waivers set since = since - interval '2 hours', until = until - interval '2 hours' where gate = 'drift'",
  )
  await expect(flipTo(tag, refreshId)).rejects.toMatchObject({
    code: 'PREFLIP_REFUSED',
    message: expect.stringContaining('a verdict against it from drift'),
  })
  await database.pool.query("update snapflip.waivers set until = until + interval '2 hours'")
  await flipTo(tag, refreshId)
})

it('a waiver for other content lets nothing pass', async () => {
  const first = await judged(refusedBy)
  await close(database.pool, first.refreshId, 'REJECTED', first.tag)
  await forAnHour(first.tag, 'changeVolume')
  await forAnHour(first.tag, 'drift')
  await database.pool.query('update snapflip.waivers set digest = $1', ['cd'.repeat(32)])
  const { tag } = await judged(refusedBy)
  expect(await version(database.pool, DATASET, tag)).toMatchObject({ state: 'rejected' })
})

it('a refusal stands until the definition or a waiver changes; one that said nothing of the content does not', async () => {
  const { pool } = database
  const standing = (parent: string | null = null) => standingRefusal(pool, { dataset: DATASET, parent })
  expect(await standing()).toBeNull()
  const damaged = await judged([gate('reject', 'integrity')])
  await close(pool, damaged.refreshId, 'REJECTED', damaged.tag)
  expect(await standing()).toBeNull()
  const broken = await judged([{ ...gate('hold', 'user:desk'), actual: { broken: 'no answer' } }])
  await close(pool, broken.refreshId, 'HELD', broken.tag)
  expect(await standing()).toBeNull()
  const refused = await judged(refusedBy)
  await close(pool, refused.refreshId, 'REJECTED', refused.tag)
  expect(await standing()).toMatchObject({ tag: refused.tag, status: 'REJECTED', digest })
  expect(await standing(refused.tag)).toBeNull()
  await forAnHour(refused.tag, 'drift')
  expect(await standing()).toBeNull()

  const held = await judged([gate('hold', 'sourceSchema')])
  await close(pool, held.refreshId, 'HELD', held.tag)
  expect(await standing()).toMatchObject({ tag: held.tag, status: 'HELD' })
  await applyDefinition(pool, { dataset: DATASET, definition: definition('public.goods') })
  expect(await standing()).toBeNull()
})

it('good versions are those that readers were on and that are not quarantined, newest first', async () => {
  const { pool } = database
  const evidence = { build: 'incremental', parentCount: 10, notCompared: null }
  const whole = {
    reason: null,
    count: 10,
    inserted: 1,
    updated: 0,
    deleted: 0,
    sourceCount: null,
    duplicates: { count: 0, sampleKeys: [] },
  }
  const rest = { formerShape: null, shape: 'a', blocksWritten: 1, bytesWritten: 1 }
  const tags: string[] = []
  for (let n = 0; n < 7; n++) tags.push(await flipped(pool, tags.at(-1) ?? null))
  const counts = (changed: object) => JSON.stringify({ products: { ...evidence, ...whole, ...rest, ...changed } })
  await pool.query('update snapflip.index_versions set counts = $1', [counts({})])
  for (const [at, changed] of [
    [0, { parentCount: 0 }],
    [1, { build: 'unchanged' }],
    [2, { notCompared: 'damaged' }],
  ] as const)
    await pool.query('update snapflip.index_versions set counts = $1 where tag = $2', [counts(changed), tags[at]])
  const unflipped = await judged([gate('reject', 'drift')])
  await pool.query('update snapflip.index_versions set counts = $1 where tag = $2', [counts({}), unflipped.tag])
  await quarantine(pool, { dataset: DATASET, tag: tags[4] as string, by: 'ana', reason: 'wrong' })
  const good = (limit: number) => goodVersions(pool, { dataset: DATASET, index: 'products', limit })
  expect((await good(20)).map(({ tag }) => tag)).toEqual([tags[6], tags[5], tags[3]])
  expect((await good(2)).map(({ tag }) => tag)).toEqual([tags[6], tags[5]])
})

it('integrity cannot be waived, and who waives is who is connected', async () => {
  const { tag } = await judged([gate('reject')])
  await expect(forAnHour(tag, 'integrity')).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('cannot be waived'),
  })
  const direct = "select snapflip.waive($1, $2, 'integrity', now() + interval '1 hour', 'x')"
  await expect(database.pool.query(direct, [DATASET, tag])).rejects.toThrow('expected a gate that refused')
})
