import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isSnapflipError } from '../../src/core/errors.ts'
import { applyChange } from '../../src/core/pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { RedisKeys } from '../../src/stores/redis/keys.ts'
import type { Exploration } from '../core/model/explorer.ts'
import { run, type Scenario } from '../core/model/scenario.ts'
import { SCENARIOS } from '../core/model/scenarios.ts'
import { ordinalOf, type StoreAct, type World, type WorldStep, worldOf } from '../core/model/world.ts'
import { DATASET, tagOf } from '../core/pointers.ts'
import { testBucket, testFolder, testRedis, uniqueName } from '../support/services.ts'

/** Besides the traces that cover every step: whole runs, to where nobody has anything left to do. */
const WHOLE_RUNS_MAX = 6
const AT_ONCE = 8
/** Thousands of requests to one server, beside all that other tests ask of the machine. */
const TIMEOUT_MS = 300_000
const CLIENTS = 2

interface Trace {
  title: string
  start: World
  steps: readonly WorldStep[]
}

/** A store of one dataset as each of several processes has it, and how it loses what it acknowledged, where it can. */
interface Driver {
  open: (dataset: string) => Promise<Store>
  loses?: (
    dataset: string,
  ) => Promise<{ beforeWrite(): Promise<void>; failover(): Promise<void>; lose(): Promise<void> }>
}

/** Traces that have in them every step that the explorer found. */
interface Replayed {
  traces: Trace[]
  labels: Set<string>
}
const withLosses: Replayed = { traces: [], labels: new Set() }
/** In a store that keeps what it acknowledged: chosen by themselves, or a step would be left out whose only chosen trace has a loss in it. */
const withoutLosses: Replayed = { traces: [], labels: new Set() }
beforeAll(() => {
  for (const [title, scenario] of Object.entries(SCENARIOS) as Array<[string, Scenario]>) {
    const { traces, labels } = run(scenario, null)
    const start = worldOf({ ...scenario.world, actors: Object.keys(scenario.actors) })
    const add = (to: Replayed, found: typeof traces, has: Iterable<string>) => {
      for (const label of has) to.labels.add(`${title}: ${label}`)
      for (const steps of chosen(found)) to.traces.push({ title, start, steps })
    }
    add(withLosses, traces, labels.keys())
    const lossless = traces.filter((steps) => !steps.some(canLose))
    add(withoutLosses, lossless, labelsOf(lossless))
  }
}, TIMEOUT_MS)

/** Few traces that have every step in them, the longest first, and some whole runs. */
function chosen(traces: Exploration<World, WorldStep>['traces']): Array<readonly WorldStep[]> {
  const covered = new Set<string>()
  const longest = traces.toSorted((a, b) => b.length - a.length)
  const covering = longest.filter((steps) => {
    const isNew = steps.some(({ label }) => !covered.has(label))
    for (const { label } of steps) covered.add(label)
    return isNew
  })
  return [...new Set([...covering, ...longest.slice(0, WHOLE_RUNS_MAX)])]
}

const canLose = ({ store }: WorldStep) => store?.act === 'failover' || store?.act === 'lose'
const labelsOf = (traces: ReadonlyArray<readonly WorldStep[]>) => traces.flat().map(({ label }) => label)

describe('what the explorer found possible is what the driver does', { timeout: TIMEOUT_MS }, () => {
  let client: Redis
  afterAll(() => client?.disconnect())

  it('in Redis, through failovers and losses too', async () => {
    const redis = await testRedis()
    client = new Redis(redis.url)
    await agrees(withLosses, {
      open: (dataset) => openStore(`${redis.url}?prefix=${redis.prefix}`, { dataset }),
      loses: async (dataset) => loser(client, new RedisKeys(redis.prefix, dataset).pointer),
    })
  })

  it('in S3', async () => {
    const bucket = await testBucket()
    await agrees(withoutLosses, { open: (dataset) => openStore(bucket.url, { dataset }) })
  })

  it('in a folder', async () => {
    const folder = await testFolder()
    await agrees(withoutLosses, { open: (dataset) => openStore(folder.url, { dataset }) })
  })
})

async function agrees({ traces, labels }: Replayed, driver: Driver): Promise<void> {
  const seen = new Set(traces.flatMap(({ title, steps }) => steps.map(({ label }) => `${title}: ${label}`)))
  expect([...labels].filter((label) => !seen.has(label))).toEqual([])
  const open = [...traces]
  const replayNext = async () => {
    for (let trace = open.pop(); trace !== undefined; trace = open.pop()) await replay(trace, driver)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, replayNext))
  console.log(`${traces.length} traces, ${traces.reduce((sum, { steps }) => sum + steps.length, 0)} steps`)
}

async function replay({ title, start, steps }: Trace, driver: Driver): Promise<void> {
  const dataset = `d${uniqueName()}`
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => driver.open(dataset)))
  const loses = await driver.loses?.(dataset)
  try {
    const [first] = clients as [Store]
    for (const ordinal of start.store.present) await first.data.putManifest(tagOf(ordinal), bytesOf(ordinal))
    if (start.store.pointer !== null) await first.pointer.swap(null, start.store.pointer)
    const names = Object.keys(start.actors)
    const tokens = new Map<string, string | null>()
    for (const [n, { actor, store: act }] of steps.entries()) {
      const where = () =>
        `${title}:\n${steps
          .slice(0, n + 1)
          .map(({ label }) => label)
          .join('\n')}`
      if (act === undefined) continue
      if (act.act === 'failover') await loses?.failover()
      else if (act.act === 'lose') await loses?.lose()
      else {
        if ((act.act === 'swap' || act.act === 'rebind') && act.outcome === 'set') await loses?.beforeWrite()
        const client = clients[(names.indexOf(actor) + 1) % CLIENTS] as Store
        expect(await done(client, act, { actor, tokens }), where()).toEqual(outcomeOf(act))
      }
    }
    const last = steps.at(-1)?.to ?? start
    expect((await first.pointer.read())?.pointer ?? null, `${title}, at its end`).toEqual(last.store.pointer)
  } finally {
    for (const client of clients) await client.close()
  }
}

/** What the model says of the act. */
function outcomeOf(act: StoreAct): unknown {
  switch (act.act) {
    case 'read':
    case 'manifest':
    case 'leases':
      return act.found
    case 'decide':
      return [act.found, act.outcome, act.pending ?? null]
    case 'swap':
    case 'rebind':
      return act.outcome
    default:
      return null
  }
}

/** What the driver says of it. */
async function done(
  store: Store,
  act: StoreAct,
  { actor, tokens }: { actor: string; tokens: Map<string, string | null> },
): Promise<unknown> {
  const read = async () => {
    const found = await store.pointer.read()
    tokens.set(actor, found?.token ?? null)
    return found?.pointer ?? null
  }
  switch (act.act) {
    case 'read':
      return read()
    case 'decide': {
      const found = await read()
      const outcome = applyChange(found, act.change, DATASET)
      if (outcome.outcome === 'refused') return [found, outcome.code, null]
      return [found, outcome.outcome, outcome.outcome === 'applied' ? outcome.pointer : null]
    }
    case 'swap':
      try {
        return (await store.pointer.swap(tokens.get(actor) ?? null, act.next)) ? 'set' : 'moved'
      } catch (error) {
        if (isSnapflipError(error, 'STORE_REBOUND')) return 'rebound'
        throw error
      }
    case 'rebind':
      return (await store.pointer.rebind(tokens.get(actor) as string, act.next)) ? 'set' : 'moved'
    case 'manifest':
      return (await store.data.readManifest(tagOf(act.of))) !== null
    case 'delete':
      await store.data.deleteManifest(tagOf(act.of))
      return null
    case 'lease':
      await store.leases.put({ id: actor, tag: tagOf(act.of), kind: 'reader', ttlMs: 600_000 })
      return null
    case 'drop':
      await store.leases.drop(act.of)
      return null
    case 'leases':
      return (await store.leases.list()).flatMap(({ tag }) => (tag === null ? [] : [ordinalOf(tag)])).toSorted()
    default:
      return null
  }
}

/** A server that fails over has the pointer as it was before the last write, bound to another identity; one that evicts has none. */
function loser(client: Redis, key: string) {
  let before: Record<string, string> = {}
  return {
    async beforeWrite() {
      before = await client.hgetall(key)
    },
    async failover() {
      await client.hset(key, { ...before, i: 'another server', m: 'another replication' })
    },
    async lose() {
      await client.del(key)
    },
  }
}

function bytesOf(ordinal: number): Uint8Array {
  return Buffer.from(`manifest of ${ordinal}`)
}
