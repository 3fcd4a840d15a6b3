import type { Client } from 'pg'
import { beforeEach, expect, it, onTestFinished } from 'vitest'
import { append } from '../../src/changelog/append.ts'
import { prune } from '../../src/changelog/prune.ts'
import { scanEventsAt } from '../../src/changelog/scan.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import type { EventsSource, Source } from '../../src/changelog/source.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { type Cut, connect, cut, foldBetween, read, resolve } from './fold.ts'

const never = new AbortController().signal
const random = (below: number) => Math.floor(Math.random() * below)

let database: TestDatabase
let client: Client
let other: Client
let source: Source
beforeEach(async () => {
  database = await testDatabase()
  client = await connectBuilder(database.url)
  other = await connect(database)
  source = await resolve(client, { events: true })
  onTestFinished(async () => {
    await client.end()
    await other.end()
    await database.drop()
  })
})

const pruneBehind = (...cuts: Cut[]) =>
  prune(
    client,
    cuts.map(({ watermark }) => watermark.id),
    never,
    0,
  )
const put = (key: string, value: unknown) => append(other, 'shop', 'index', key, value)
const eventsLeft = async () =>
  (
    await other.query<{ event: string }>(
      `select convert_from(key, 'UTF8') || ' ' || coalesce(value, 'null') as event from snapflip.events order by seq`,
    )
  ).rows.map(({ event }) => event)

it('keeps no event of a key that every kept watermark sees deleted, and the last one of any other', async () => {
  for (const value of [1, null]) await put('gone', value)
  for (const value of [1, null, 2]) await put('back', value)
  const first = await cut(client, [source])
  for (const value of [3, null]) await put('late', value)
  await put('back', null)
  const second = await cut(client, [source])
  expect(await pruneBehind(first, second)).toMatchObject({ events: 4 })
  expect(await eventsLeft()).toEqual(['back 2', 'late 3', 'late null', 'back null'])
  expect((await foldBetween(client, source, 0, first, second)).list()).toEqual(second.truth[0]?.list())
  expect(await pruneBehind(second)).toMatchObject({ events: 4 })
  expect(await eventsLeft()).toEqual([])
  expect((await cut(client, [source])).truth[0]?.list()).toEqual([])
})

it('keeps what every kept watermark and every later one needs, however transactions overlap', async () => {
  const writers = await Promise.all(Array.from({ length: 3 }, () => connect(database)))
  onTestFinished(async () => {
    for (const writer of writers) await writer.end()
  })
  const isOpen = writers.map(() => false)
  // Whose transaction has appended to the key that all share: the others would wait for it. It need not be the one that began first.
  let holder: number | null = null
  let kept: Cut[] = []
  for (let step = 0; step < 400; step++) {
    const n = random(writers.length)
    const writer = writers[n] as Client
    if (isOpen[n] && random(3) === 0) {
      await writer.query(random(4) === 0 ? 'rollback' : 'commit')
      isOpen[n] = false
      if (holder === n) holder = null
    } else {
      if (!isOpen[n]) await writer.query('begin')
      isOpen[n] = true
      const isShared = (holder === null || holder === n) && random(3) === 0
      if (isShared) holder = n
      await append(writer, 'shop', 'index', isShared ? 'all' : `${n} ${random(3)}`, random(3) === 0 ? null : step)
    }
    if (step % 10 === 0) kept.push(await cut(client, [source]))
    if (step % 25 !== 0) continue
    kept = kept.filter(() => random(3) !== 0)
    await pruneBehind(...kept)
    const now = await cut(client, [source])
    for (const from of kept) {
      expect((await foldBetween(client, source, 0, from, now)).list(), `step ${step}`).toEqual(now.truth[0]?.list())
      const again = await read(scanEventsAt(client, source as EventsSource, from.watermark))
      expect(again.list()).toEqual(from.truth[0]?.list())
    }
    kept.push(now)
  }
})

it('that is stopped half-way leaves nothing undone for good, and brings nothing deleted back', async () => {
  const keys = 25_000
  const all = (value: string) =>
    other.query(`select snapflip.append('shop', 'index', 'key ' || g, ${value}) from generate_series(1, ${keys}) g`)
  await all(`'1'`)
  await all(`null::text`)
  const at = await cut(client, [source])
  const stop = new AbortController()
  // It is asked before each batch, the first time for changes: the third batch of events is not begun.
  let asked = 0
  const signal = Object.create(stop.signal, {
    throwIfAborted: {
      value: () => {
        if (++asked === 4) stop.abort(new Error('stopped'))
        stop.signal.throwIfAborted()
      },
    },
  }) as AbortSignal
  await expect(prune(client, [at.watermark.id], signal, 0)).rejects.toThrow()
  const left = (await eventsLeft()).length
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(2 * keys)
  expect((await cut(client, [source])).truth[0]?.list()).toEqual([])
  await pruneBehind(at)
  expect(await eventsLeft()).toHaveLength(0)
})

it('begins anew where the transaction numbers are of another cluster', async () => {
  await put('k', 1)
  await pruneBehind(await cut(client, [source]))
  await other.query(
    `update snapflip.compacted set snapshot = '9999999999:9999999999:'; update snapflip.lineage set system = 'another'`,
  )
  await put('k', 2)
  const at = await cut(client, [source])
  expect(await pruneBehind(at)).toMatchObject({ events: 1 })
  expect(await eventsLeft()).toEqual(['k 2'])
})

it('looks at what came since the last pruning, not at every key', async () => {
  await other.query(`select snapflip.append('shop', 'index', 'key ' || g, g::text) from generate_series(1, 30000) g`)
  await pruneBehind(await cut(client, [source]))
  await other.query('analyze snapflip.events')
  for (let n = 1; n <= 20; n++) await put(`key ${n}`, null)
  const at = await cut(client, [source])
  const before = await rowsRead()
  expect(await pruneBehind(at)).toMatchObject({ events: 40 })
  expect((await rowsRead()) - before).toBeLessThan(1000)

  async function rowsRead(): Promise<number> {
    await client.query('select pg_stat_force_next_flush()')
    await client.query('select 1')
    const { rows } = await other.query<{ read: string }>(
      `select seq_tup_read + idx_tup_fetch as read from pg_stat_user_tables where relid = 'snapflip.events'::regclass`,
    )
    return Number(rows[0]?.read)
  }
})
