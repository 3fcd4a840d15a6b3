import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import type { Watermark } from '../schemas/manifest.ts'
import { preflight } from '../src/changelog/capture.ts'
import { planRanges, type Range } from '../src/changelog/ranges.ts'
import { scanSource } from '../src/changelog/scan.ts'
import { earliest } from '../src/changelog/snapshot-order.ts'
import type { Source, TableSource } from '../src/changelog/source.ts'
import { inWatermark, watermarkStillThere } from '../src/changelog/watermark.ts'
import { currentSnapshot, isEmptyWindow, windowSource } from '../src/changelog/window.ts'
import type { EntrySource } from '../src/snapshot/entry.ts'
import type { FinishedChunk } from '../src/snapshot/run-chunk.ts'
import type { RunMemory } from '../src/snapshot/run-memory.ts'
import { finished } from '../src/snapshot/run-writer.ts'
import { openRuns, type Runs } from '../src/snapshot/runs.ts'
import type { IndexPlan } from './index-plans.ts'
import { inLanes } from './lanes.ts'

/** Rows of a table that are read in one transaction; a killed build reads at most this many twice for each lane. */
const CHUNK_ROWS = 32_000

/**
 * Connections that read ranges side by side. Two: PostgreSQL makes the rows of one range while those of the other are taken in here, which reads a
 * million rows in 0.8 times what one connection takes, on two cores.
 */
const LANES = 2

/** A table that was altered this often while its ranges were read is read in one transaction: else it might never be read to the end. */
const RESTARTS_MAX = 3

/** Where a build is: its folder, what it tells of its progress, how it is stopped. */
export interface Workplace {
  dataset: string
  /** The refresh's folder of runs: a retry on this machine goes on from what it finds there. */
  folder: string
  /** What the runs of all indexes may keep in memory, together. */
  memory: RunMemory
  tell: (progress: string) => void
  signal: AbortSignal
}

/** What was written down before the first chunk was read, so that a retry reads the same ranges into the same layout. */
interface ScanPlan {
  /** Changes with the definition, the table, its shape and its primary key. */
  fingerprint: string
  seed: string
  ranges: readonly Range[]
  /** How often ranges had to be read again because the table was altered or truncated after they were read. */
  restarts: number
}

/** What is kept with a finished chunk. */
interface ChunkNote {
  range: Range
  watermark: Watermark
}

/**
 * An index's entries on their way into runs. A source that can be read in ranges is read before the version's watermark is taken, a
 * transaction a range, each at its own snapshot; the changes between those and the watermark are folded in afterwards.
 */
export class IndexScan {
  readonly plan: IndexPlan
  readonly runs: Runs
  readonly seed: string
  readonly #place: Workplace
  readonly #ranges: readonly Range[] | null

  private constructor(plan: IndexPlan, runs: Runs, seed: string, place: Workplace, ranges: readonly Range[] | null) {
    this.plan = plan
    this.runs = runs
    this.seed = seed
    this.#place = place
    this.#ranges = ranges
  }

  static async open(client: Client, plan: IndexPlan, place: Workplace): Promise<IndexScan> {
    const folder = join(place.folder, createHash('sha256').update(plan.name).digest('hex').slice(0, 16))
    const inRanges = plan.fullReason !== null && isRanged(plan.source)
    const drawn = plan.former?.seed ?? randomBytes(8).toString('hex')
    const ranged = inRanges ? await rangesOf(client, plan.source as TableSource, folder, drawn) : null
    const seed = ranged?.seed ?? drawn
    const ranges = ranged === null || ranged.restarts >= RESTARTS_MAX ? null : ranged.ranges
    const runs = await openRuns({
      dataset: place.dataset,
      index: plan.name,
      kind: plan.kind,
      seed,
      keyBytesMax: plan.definition.keyBytesMax,
      valueBytesMax: plan.definition.valueBytesMax,
      folder,
      memory: place.memory,

      durable: ranges !== null,
    })
    if (ranged !== null && ranges !== null) {
      const stale = await staleChunks(client, plan.source, runs)
      if (stale.size > 0) {
        await writeWhole(folder, 'plan', JSON.stringify({ ...ranged, restarts: ranged.restarts + 1 }))
        await runs.drop(stale)
      }
    }
    return new IndexScan(plan, runs, seed, place, ranges)
  }

  /** Reads the ranges that no earlier attempt has read, side by side: `client` and what `connect` opens. */
  async beforeWatermark(client: Client, connect: () => Promise<Client>): Promise<void> {
    if (this.#ranges === null) return
    const { dataset, signal, tell } = this.#place
    const { source, name } = this.plan
    const total = this.#ranges.length
    const done = new Set(this.runs.finished.map((chunk) => chunk.id))
    const left = this.#ranges.map((range, n) => ({ range, n, id: `range-${n}` })).filter(({ id }) => !done.has(id))
    const own = async () => ({ lane: client, end: async () => undefined })
    const more = async () => {
      const lane = await connect()
      return { lane, end: () => lane.end() }
    }
    const lanes = [own, ...Array.from({ length: LANES - 1 }, () => more)]
    await inLanes(left, lanes, signal, async ({ range, n, id }, lane, either) => {
      tell(`${dataset}.${name}: range ${n + 1} of ${total}${done.size > 0 ? ', going on' : ''}`)
      await finished(this.runs.begin(id), async (writer) => {
        const watermark = await inWatermark(lane, [source], 'chunk', async (at) => {
          await scanSource(lane, source, range).read(writer, either)
          return at
        })
        // Only a range whose watermark is durable counts.
        return { range, watermark } satisfies ChunkNote
      })
    })
  }

  /** Reads, in the transaction of the version's watermark, what can only be read there. */
  async atWatermark(client: Client): Promise<void> {
    if (this.plan.fullReason === null || this.#ranges !== null) return
    this.#place.tell(`${this.#place.dataset}.${this.plan.name}: reading the source`)
    await this.#take('source', scanSource(client, this.plan.source))
  }

  /** Reads the changes up to the version's watermark: since the parent's, or since each range's own. */
  async afterWatermark(client: Client, parent: Watermark | null, watermark: Watermark): Promise<void> {
    const to = watermark.snapshot
    if (this.plan.fullReason === null && parent !== null) {
      this.#place.tell(`${this.#place.dataset}.${this.plan.name}: reading the changes`)
      await this.#take('changes', windowSource(client, this.plan.source, { from: parent, to }))
    }
    if (this.#ranges === null) return
    const chunks = this.runs.finished.filter((finished) => finished.id.startsWith('range-'))
    if (await this.#quietSince(client, chunks, to)) return
    for (const chunk of chunks) {
      const { range, watermark: from } = chunk.note as ChunkNote
      await this.#take(`changes-${chunk.id}`, windowSource(client, this.plan.source, { from, to }, { range }))
    }
  }

  /**
   * Whether nothing at all changed since the earliest range was read, which spares a window each: the window from the snapshot that is within all
   * others holds all of theirs. Every watermark must still be there, as each window of its own would ask.
   */
  async #quietSince(client: Client, chunks: readonly FinishedChunk[], to: string): Promise<boolean> {
    const marks = chunks.map((chunk) => (chunk.note as ChunkNote).watermark)
    const from = marks[earliest(marks.map((mark) => mark.snapshot))]
    if (from === undefined || !(await isEmptyWindow(client, [this.plan.source], { from, to }))) return false
    for (const mark of marks) if (!(await watermarkStillThere(client, mark))) return false
    return true
  }

  async #take(id: string, source: EntrySource): Promise<void> {
    // Not durable: a retry takes another watermark, and reads up to that.
    await finished(this.runs.begin(id, { durable: false }), (writer) => source.read(writer, this.#place.signal))
  }
}

/** Chunks from which no window can be read any more: their table was altered or truncated since, or their watermark is gone. */
async function staleChunks(client: Client, source: Source, runs: Runs): Promise<ReadonlySet<string>> {
  const stale = new Set<string>()
  if (runs.finished.length === 0) return stale
  const now = await currentSnapshot(client)
  for (const { id, note } of runs.finished) {
    const { watermark } = note as ChunkNote
    const there = await watermarkStillThere(client, watermark)
    if (!there || (await preflight(client, [source], watermark, now)).some((table) => !table.ok)) stale.add(id)
  }
  return stale
}

function isRanged(source: Source): boolean {
  return source.kind === 'table' && source.captured && source.primaryKey !== null
}

async function rangesOf(client: Client, source: TableSource, folder: string, seed: string): Promise<ScanPlan> {
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([source.shape, source.table.relid, source.primaryKey]))
    .digest('hex')
  const text = await readFile(join(folder, 'plan'), 'utf8').catch((error: NodeJS.ErrnoException) => {
    // Only a plan that was never written begins the scan anew; one that cannot be read may have hours of runs beside it.
    if (error.code === 'ENOENT') return null
    throw error
  })
  const known = text === null ? null : (JSON.parse(text) as ScanPlan)
  if (known?.fingerprint === fingerprint) return known
  // Runs of another definition are of no use.
  await rm(folder, { recursive: true, force: true })
  const plan: ScanPlan = { fingerprint, seed, ranges: await planRanges(client, source, CHUNK_ROWS), restarts: 0 }
  await writeWhole(folder, 'plan', JSON.stringify(plan))
  return plan
}

async function writeWhole(folder: string, name: string, text: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${name}.new`), text)
  await rename(join(folder, `${name}.new`), join(folder, name))
}
