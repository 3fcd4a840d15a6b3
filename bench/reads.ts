import { Redis } from 'ioredis'
import { open } from '../src/index.ts'
import { plainKey } from './plain-sets.ts'
import { median, percentile } from './report.ts'
import { INDEX, type World } from './world.ts'

/** Each is measured this often, in turns. */
const TURNS = 9
const SINGLE_READS = 4_000
const READS = 60_000
const IN_FLIGHT = 100

export interface ReadTimes {
  p50Us: number
  p99Us: number
  /** Reads a second with IN_FLIGHT of them under way. */
  perSecond: number
}

export interface ReadPair {
  raw: ReadTimes
  get: ReadTimes
  /** Medians of the turns' own ratios: what the machine does besides falls on both. */
  p50Ratio: number
  p99Ratio: number
  throughputRatio: number
}

/** `get` of the SDK against GET and JSON.parse of a plain key: random keys, pages warm, no block cached. */
export async function reads(world: World, dataset: string): Promise<ReadPair> {
  const redis = new Redis({ port: world.redisPort, db: 1 })
  const reader = await open<{ [INDEX]: { id: number } }>(world.redisUrl, dataset)
  const key = () => 1 + Math.floor(Math.random() * world.rows)
  const raw = async (id: number) => JSON.parse((await redis.get(plainKey(id))) as string) as { id: number }
  const get = (id: number) => reader.get(INDEX, id)
  try {
    // Pages, connections, compiled code.
    for (const read of [raw, get]) await inFlight(read, key, READS)
    const turns: Array<{ raw: ReadTimes; get: ReadTimes }> = []
    for (let turn = 0; turn < TURNS; turn++) {
      const first = turn % 2 === 0
      const a = await measure(first ? raw : get, key)
      const b = await measure(first ? get : raw, key)
      turns.push(first ? { raw: a, get: b } : { raw: b, get: a })
    }
    const of = (side: 'raw' | 'get', field: keyof ReadTimes) => median(turns.map((turn) => turn[side][field]))
    const times = (side: 'raw' | 'get'): ReadTimes => ({
      p50Us: of(side, 'p50Us'),
      p99Us: of(side, 'p99Us'),
      perSecond: of(side, 'perSecond'),
    })
    const ratio = (field: keyof ReadTimes) => median(turns.map((turn) => turn.get[field] / turn.raw[field]))
    return {
      raw: times('raw'),
      get: times('get'),
      p50Ratio: ratio('p50Us'),
      p99Ratio: ratio('p99Us'),
      throughputRatio: ratio('perSecond'),
    }
  } finally {
    redis.disconnect()
    await reader.close()
  }
}

type ReadOne = (id: number) => Promise<{ id: number } | undefined>

async function measure(read: ReadOne, key: () => number): Promise<ReadTimes> {
  const us: number[] = []
  for (let n = 0; n < SINGLE_READS; n++) {
    const id = key()
    const begun = performance.now()
    const value = await read(id)
    us.push((performance.now() - begun) * 1000)
    if (value?.id !== id) throw new Error(`key ${id} reads as ${JSON.stringify(value)}`)
  }
  const ms = await inFlight(read, key, READS)
  return { p50Us: percentile(us, 0.5), p99Us: percentile(us, 0.99), perSecond: (READS * 1000) / ms }
}

async function inFlight(read: ReadOne, key: () => number, count: number): Promise<number> {
  let left = count
  const begun = performance.now()
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      while (left-- > 0) await read(key())
    }),
  )
  return performance.now() - begun
}
