import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Store } from '../../src/stores/ports.ts'
import { type BuiltVersion, TestDataset } from './dataset.ts'
import { contentOf } from './race-model.ts'
import type { RaceOrder, RaceReport } from './racing-reader.ts'

const READERS = 8
/** Two cores are what a small CI machine has. */
const WORKERS = 2
const KEEP = 3
/** Clocks of two threads, read one after the other. */
const CLOCK_SLACK_MS = 50

export interface RaceResult extends RaceReport {
  swept: number
  /** Unpinned answers by a version that was neither active nor candidate during the call, nor within the follow lag before it. */
  late: string[]
}

/** One version in so many is a candidate for a moment before it is flipped to, or given up. */
const CANARY_EVERY = 8
const CANARY_MS = 100

/** Eight readers read without pause, on both sides of canaries, while versions are flipped to, rolled back from, retired and swept. */
export async function race(options: {
  url: string
  store: Store
  dataset: string
  flips: number
  followLagMs?: number
}): Promise<RaceResult> {
  const dataset = new TestDataset(options.dataset, options.store)
  const timeline: Array<{ ordinal: number; from: number; until: number }> = []
  const now = () => performance.timeOrigin + performance.now()
  let active: BuiltVersion | null = null
  const flip = async (version: BuiltVersion) => {
    const from = now()
    await dataset.flip(version)
    for (const before of timeline) before.until = Math.min(before.until, now())
    timeline.push({ ordinal: version.ref.ordinal, from, until: Number.POSITIVE_INFINITY })
    active = version
  }
  /** Its readers are on it until it is given up, or until the next flip. */
  const canary = async (version: BuiltVersion, givenUp: boolean) => {
    const from = now()
    const canaryId = await dataset.canary(version, 0.5)
    const place = timeline.push({ ordinal: version.ref.ordinal, from, until: Number.POSITIVE_INFINITY }) - 1
    await new Promise((resolve) => setTimeout(resolve, CANARY_MS))
    if (!givenUp) return
    await dataset.change({ kind: 'endCanary', canaryId })
    const ended = timeline[place]
    if (ended !== undefined) ended.until = now()
  }
  const buildNext = async () => dataset.build(contentOf(dataset.nextOrdinal), active)
  await flip(await buildNext())

  const order: RaceOrder = { url: options.url, dataset: options.dataset, readers: READERS / WORKERS }
  const workers = Array.from({ length: WORKERS }, () => {
    return new Worker(new URL('./racing-reader.ts', import.meta.url), { workerData: order })
  })
  const retiring: BuiltVersion[] = []
  let swept = 0
  const reports: RaceReport[] = []
  try {
    await Promise.all(workers.map((worker) => once(worker, 'message')))
    for (let count = 0; count < options.flips; count++) {
      const pointer = await dataset.pointer()
      const previous = dataset.versions.get(pointer?.previous?.tag ?? '')
      // A third of the flips goes back; never twice in a row, so that ordinals rise on the whole.
      const back = count % 3 === 2 && previous !== undefined
      const next = back ? previous : await buildNext()
      if (!back && count % CANARY_EVERY === 0) {
        const givenUp = count % (2 * CANARY_EVERY) === 0
        await canary(next, givenUp)
        if (givenUp) continue
      }
      await flip(next)
      swept += await retireOld(dataset, retiring)
    }
  } finally {
    for (const worker of workers) {
      const reported = once(worker, 'message')
      worker.postMessage('stop')
      reports.push((await reported)[0] as RaceReport)
    }
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
  const report = sum(reports)
  const lag = (options.followLagMs ?? 1000) + CLOCK_SLACK_MS
  const late = report.answers
    .filter(([begun, ended, ordinal]) => {
      return !timeline.some((t) => t.ordinal === ordinal && t.from <= ended && t.until >= begun - lag)
    })
    .map(([begun, , ordinal]) => {
      const until = timeline.filter((t) => t.ordinal === ordinal).at(-1)?.until ?? 0
      return `version ${ordinal} answered ${Math.round(begun - until)} ms after it was left`
    })
  return { ...report, swept, late: late.slice(0, 20) }
}

/** Retires all but the newest versions, the active one and the rollback target; sweeps what no lease holds. */
async function retireOld(dataset: TestDataset, retiring: BuiltVersion[]): Promise<number> {
  const pointer = await dataset.pointer()
  const needed = new Set([pointer?.active?.tag, pointer?.previous?.tag])
  const old = [...dataset.versions.values()]
    .filter((version) => !retiring.includes(version))
    .sort((a, b) => a.ref.ordinal - b.ref.ordinal)
    .slice(0, -KEEP)
    .filter((version) => !needed.has(version.ref.tag))
  for (const version of old) {
    await dataset.retire(version)
    retiring.push(version)
  }
  let swept = 0
  for (const version of [...retiring]) {
    if (!(await dataset.sweep(version))) continue
    retiring.splice(retiring.indexOf(version), 1)
    swept++
  }
  return swept
}

function sum(reports: readonly RaceReport[]): RaceReport {
  const errors: Record<string, number> = {}
  for (const report of reports)
    for (const [code, count] of Object.entries(report.errors)) errors[code] = (errors[code] ?? 0) + count
  const total = (count: (report: RaceReport) => number) => reports.reduce((all, report) => all + count(report), 0)
  return {
    reads: total((report) => report.reads),
    pins: total((report) => report.pins),
    retries: total((report) => report.retries),
    flips: total((report) => report.flips),
    aside: total((report) => report.aside),
    tears: reports.flatMap((report) => report.tears),
    firstErrors: reports.flatMap((report) => report.firstErrors),
    answers: reports.flatMap((report) => report.answers),
    errors,
  }
}
