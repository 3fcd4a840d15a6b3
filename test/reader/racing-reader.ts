import { isDeepStrictEqual } from 'node:util'
import { parentPort, workerData } from 'node:worker_threads'
import { isSnapflipError, open, type Reader } from '../../src/index.ts'
import { echoesOf, type Marked, SLOW, STAMPS, slowOf, stampOf } from './race-model.ts'

/** Run as a worker thread: readers that read without pause, and tell at the end what they saw. */
export interface RaceOrder {
  url: string
  dataset: string
  readers: number
}

export interface RaceReport {
  reads: number
  pins: number
  /** Answers that no one version gives. */
  tears: string[]
  /** Failures, by code. */
  errors: Record<string, number>
  firstErrors: string[]
  /** [begun, ended, ordinal] of unpinned answers; times as performance.timeOrigin + now. */
  answers: Array<[number, number, number]>
  retries: number
  flips: number
  /** Answers to a request from another version than the reader's own side has. */
  aside: number
}

const TEARS_MAX = 20
const ANSWERS_MAX = 50_000

const { url, dataset, readers } = workerData as RaceOrder
const report: RaceReport = {
  reads: 0,
  pins: 0,
  tears: [],
  errors: {},
  firstErrors: [],
  answers: [],
  retries: 0,
  flips: 0,
  aside: 0,
}
let stopped = false
const now = () => performance.timeOrigin + performance.now()
const random = (below: number) => Math.floor(Math.random() * below)

function expectSame(what: string, found: unknown, expected: unknown): void {
  report.reads++
  if (isDeepStrictEqual(found, expected) || report.tears.length >= TEARS_MAX) return
  report.tears.push(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`)
}

function answered(begun: number, ordinal: number): void {
  if (report.answers.length < ANSWERS_MAX) report.answers.push([begun, now(), ordinal])
}

async function readUnpinned(reader: Reader): Promise<void> {
  const begun = now()
  const key = random(STAMPS)
  // Half of the requests choose the side of a canary by themselves.
  const side = random(2) === 0 ? {} : { for: `user-${random(20)}` }
  const entry = await reader.getEntry('stamps', key, side)
  const { ordinal } = entry.version
  if (ordinal !== reader.version.ordinal) report.aside++
  answered(begun, ordinal)
  expectSame(`stamps ${key} of ${ordinal}`, entry.value, stampOf(ordinal, key))
  const slowKey = random(SLOW)
  const slow = await reader.getEntry('slow', slowKey, side)
  expectSame(`slow ${slowKey} of ${slow.version.ordinal}`, slow.value, slowOf(slow.version.ordinal, slowKey))
}

/** No answer says its version here: the first value's mark does, and all others have to fit it. */
async function readMany(reader: Reader): Promise<void> {
  const keys = Array.from({ length: 8 }, () => random(STAMPS))
  const values = (await reader.getMany('stamps', keys)) as Array<Marked | undefined>
  const ordinal = values.find((value) => value !== undefined)?.mark
  if (ordinal === undefined) return
  expectSame(
    `stamps ${keys} of ${ordinal}`,
    values,
    keys.map((key) => stampOf(ordinal, key)),
  )
}

async function readPinned(reader: Reader): Promise<void> {
  await using pin = await reader.pin()
  report.pins++
  const { ordinal } = pin.version
  const rounds = 1 + random(4)
  for (let round = 0; round < rounds && !stopped; round++) {
    const keys = [random(STAMPS), random(STAMPS)]
    for (const key of keys) {
      expectSame(`pinned stamps ${key} of ${ordinal}`, await pin.get('stamps', key), stampOf(ordinal, key))
      expectSame(`pinned echoes ${key} of ${ordinal}`, await pin.list('echoes', key), echoesOf(ordinal, key))
      expectSame(`pinned has ${key} of ${ordinal}`, await pin.has('stamps', key), stampOf(ordinal, key) !== undefined)
    }
    const slow = Array.from({ length: 20 }, () => random(SLOW))
    expectSame(
      `pinned slow of ${ordinal}`,
      await pin.getMany('slow', slow),
      slow.map((key) => slowOf(ordinal, key)),
    )
    await new Promise((resolve) => setTimeout(resolve, random(40)))
  }
}

async function readUntilStopped(reader: Reader): Promise<void> {
  while (!stopped) {
    try {
      const act = [readUnpinned, readUnpinned, readMany, readPinned][random(4)] as (reader: Reader) => Promise<void>
      await act(reader)
    } catch (error) {
      const code = isSnapflipError(error) ? error.code : 'none'
      report.errors[code] = (report.errors[code] ?? 0) + 1
      if (report.firstErrors.length < TEARS_MAX) report.firstErrors.push(String(error))
    }
  }
}

const opened: Reader[] = []
for (let i = 0; i < readers; i++) opened.push(await open(url, dataset))
for (const reader of opened)
  reader.on('error', (error) => {
    if (report.firstErrors.length < TEARS_MAX) report.firstErrors.push(`event: ${error}`)
    if (isSnapflipError(error, 'CORRUPT')) report.errors.CORRUPT = (report.errors.CORRUPT ?? 0) + 1
  })
const reading = Promise.all(opened.map(readUntilStopped))
parentPort?.on('message', async () => {
  stopped = true
  await reading
  for (const reader of opened) {
    report.retries += reader.counters.retries ?? 0
    report.flips += reader.counters.flips ?? 0
    await reader.close()
  }
  parentPort?.postMessage(report)
  parentPort?.close()
})
parentPort?.postMessage('reading')
