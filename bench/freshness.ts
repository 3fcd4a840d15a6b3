import { setTimeout as sleep } from 'node:timers/promises'
import { open } from '../src/index.ts'
import { putContinuous, removeContinuous } from '../src/temporal/continuous.ts'
import { percentile } from './report.ts'
import { TABLE } from './rows.ts'
import { CONTINUOUS, FRESH, INDEX, type World } from './world.ts'

/** Enough that none of them waits for its disk longer than for its turn. */
const WRITERS = 16
const WRITES_A_SECOND = 1000
/** One write of so many is waited for by a reader. */
const PROBE_EVERY = 20
const WARM_MS = 5_000
const FOR_MS = 30_000
/** What is not seen by then counts as this late. */
const GIVEN_UP_MS = 30_000

export interface Freshness {
  writesPerSecond: number
  refreshesPerSecond: number
  p50Ms: number
  p99Ms: number
}

interface Probe {
  id: number
  stock: number
  committedAt: number
}

/**
 * Writes at a steady rate, a transaction each, while continuous mode refreshes; from the writer's clock after COMMIT to when a reader that asks all
 * the time gets the value.
 */
export async function freshness(world: World, say: (line: string) => void): Promise<Freshness> {
  await world.refresh(FRESH)
  const { taskQueue } = world.config.temporal
  await putContinuous(world.client, { dataset: FRESH, ...CONTINUOUS, taskQueue })
  const reader = await open(world.redisUrl, FRESH)
  const waiting: Probe[] = []
  const late: number[] = []
  const begun = performance.now()
  const measured = () => performance.now() - begun > WARM_MS
  let writes = 0
  let writing = true

  const writers = Array.from({ length: WRITERS }, async (_none, writer) => {
    const client = await world.connect()
    try {
      for (let n = 0; writing; n++) {
        const dueMs = (n * WRITERS * 1000) / WRITES_A_SECOND
        const early = dueMs - (performance.now() - begun)
        if (early > 0) await sleep(early)
        const isProbe = n % PROBE_EVERY === 0
        // Each writer has rows of its own, and a probe one that nobody writes again for a long time.
        const id = 1 + ((n * WRITERS + writer) % world.rows)
        const stock = 1_000_000 + n
        await client.query(`update ${TABLE} set stock = $2 where id = $1`, [id, stock])
        if (measured()) writes++
        if (isProbe && measured()) waiting.push({ id, stock, committedAt: performance.now() })
      }
    } finally {
      await client.end()
    }
  })
  const reading = (async () => {
    while (writing || waiting.length > 0) {
      const asked = [...waiting]
      const found =
        asked.length === 0
          ? []
          : await reader.getMany(
              INDEX,
              asked.map(({ id }) => id),
            )
      const now = performance.now()
      for (const [at, probe] of asked.entries()) {
        const value = found[at] as { stock: number } | undefined
        const age = now - probe.committedAt
        if (value?.stock !== probe.stock && age < GIVEN_UP_MS) continue
        late.push(age)
        waiting.splice(waiting.indexOf(probe), 1)
      }
      await sleep(5)
    }
  })()
  const flips = await counted(world)
  await sleep(WARM_MS + FOR_MS)
  const made = (await counted(world)) - flips
  const seconds = (performance.now() - begun) / 1000
  writing = false
  await Promise.all([...writers, reading])
  await removeContinuous(world.client, FRESH)
  say(`its steps, median: ${await steps(world)}`)
  await reader.close()
  return {
    writesPerSecond: writes / (seconds - WARM_MS / 1000),
    refreshesPerSecond: made / seconds,
    p50Ms: percentile(late, 0.5),
    p99Ms: percentile(late, 0.99),
  }
}

/** Where the time of a refresh goes. */
async function steps(world: World): Promise<string> {
  const { rows } = await world.pool.query<{ step: string; ms: number }>(
    `select key as step, percentile_disc(0.5) within group (order by value::integer) as ms
       from snapflip.refresh_runs, jsonb_each_text(durations)
      where dataset = $1 and opened_at > (select min(closed_at) from snapflip.refresh_runs where dataset = $1)
      group by key order by min(array_position(array['plan','build','gates','preflip','flip','verify','retire'], key))`,
    [FRESH],
  )
  return rows.map(({ step, ms }) => `${step} ${ms}`).join(', ')
}

async function counted(world: World): Promise<number> {
  const { rows } = await world.pool.query<{ n: number }>(
    `select count(*)::integer as n from snapflip.flip_intents where dataset = $1 and outcome = 'confirmed'`,
    [FRESH],
  )
  return rows[0]?.n ?? 0
}
