import { MockActivityEnvironment } from '@temporalio/testing'
import { expect, it } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { type PreflipRequest, preflip } from '../../activities/preflip.ts'
import type { Hold } from '../../schemas/pointer.ts'
import type { PointerChange } from '../../src/core/pointer.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { makeWorld, type World } from '../support/world.ts'

const SHOP = {
  schema: `create table products (id integer primary key, price integer not null);
    insert into products select n, n * 10 from generate_series(1, 50) n`,
  dataset: { indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
}

/** A version that would be flipped to: sealed and judged, with nothing against it. And how to look at it for the last time. */
async function makeCandidate() {
  const world = await makeWorld(SHOP)
  const found: Deps[] = []
  await world.worker((plain) => {
    found.push(plain)
    return plain
  })
  await world.refresh()
  await world.pool.query(`update snapflip.index_versions set state = 'sealed'`)
  const { active, epoch } = await world.pointer()
  if (active === null) throw new Error('nothing is active')
  const request: PreflipRequest = { dataset: world.dataset, from: { tag: active.tag, epoch }, version: active }
  const look = (change: Partial<PreflipRequest> = {}, environment = new MockActivityEnvironment()) =>
    environment.run(preflip(found[0] as Deps), { ...request, ...change }).then(
      () => null,
      (error: unknown) => error,
    )
  return { world, request, look }
}

const inStore = async (world: World, change: PointerChange) =>
  changePointer((await world.store()).pointer, change, { dataset: world.dataset })

type Candidate = Awaited<ReturnType<typeof makeCandidate>>

it.each<[string, (candidate: Candidate) => Promise<unknown>, string, RegExp]>([
  [
    'sealed with another manifest than was judged',
    async ({ request: { version } }) => ({ version: { ...version, manifest: '0'.repeat(64) } }),
    'PREFLIP_REFUSED',
    /expected manifest 0+, found .* in the registry/,
  ],
  [
    'of another digest than was judged',
    async ({ request: { version } }) => ({ version: { ...version, digest: '0'.repeat(64) } }),
    'PREFLIP_REFUSED',
    /in the registry/,
  ],
  [
    'no longer sealed',
    ({ world }) => world.pool.query(`update snapflip.index_versions set state = 'rejected'`),
    'PREFLIP_REFUSED',
    /expected a sealed version, found it rejected/,
  ],
  [
    'without evidence',
    ({ world }) => world.pool.query('delete from snapflip.gate_verdicts'),
    'PREFLIP_REFUSED',
    /expected the evidence of its gates, found none/,
  ],
  [
    'that a gate spoke against',
    ({ world }) => world.pool.query(`update snapflip.gate_verdicts set verdict = 'reject' where gate = 'drift'`),
    'PREFLIP_REFUSED',
    /expected gates that passed, found reject/,
  ],
  [
    'whose watermark is gone from the database',
    ({ world }) => world.pool.query('delete from snapflip.watermarks'),
    'PREFLIP_REFUSED',
    /expected its watermark in the database, found none/,
  ],
  [
    'built upon another version than is active',
    async ({ request: { from } }) => ({ from: { ...from, tag: 'v20260518-01' } }),
    'CONFLICT',
    /Another flip came first/,
  ],
  [
    'planned at another epoch',
    async ({ request: { from } }) => ({ from: { ...from, epoch: { registry: 0, breakGlass: 0 } } }),
    'CONFLICT',
    /Another flip came first/,
  ],
  [
    'of a dataset that is on hold in the store alone',
    ({ world }) =>
      inStore(world, { kind: 'hold', hold: { by: 'test', reason: 'stocktaking', at: '2026-05-18T10:00:00.000Z' } }),
    'ON_HOLD',
    /stocktaking/,
  ],
  [
    'of a dataset that is on hold in the registry alone',
    async ({ world }) => {
      await world.hold('stocktaking')
      await inStore(world, { kind: 'resume', holds: [(await world.pointer()).hold as Hold] })
    },
    'ON_HOLD',
    /stocktaking/,
  ],
  [
    'quarantined in the store',
    async ({ world, request: { version } }) => {
      const store = await world.store()
      const read = await store.pointer.read()
      if (read !== null) await store.pointer.swap(read.token, { ...read.pointer, quarantined: [version.tag] })
    },
    'PREFLIP_REFUSED',
    /expected a version that is not quarantined/,
  ],
])('a version %s is not flipped to', async (_what, act, type, message) => {
  const candidate = await makeCandidate()
  expect(await candidate.look()).toBeNull()
  const change = ((await act(candidate)) ?? {}) as Partial<PreflipRequest>
  const { version, from } = change
  const failure = await candidate.look({ ...(version ? { version } : {}), ...(from ? { from } : {}) })
  expect(failure).toMatchObject({ type, message: expect.stringMatching(message) })
})

it('a refresh that is cancelled during the last look flips to nothing', async () => {
  const { look } = await makeCandidate()
  const environment = new MockActivityEnvironment()
  const looking = look({}, environment)
  environment.cancel('CANCELLED')
  expect(await looking).toMatchObject({ name: 'CancelledFailure' })
})
