import type { CounterReport } from '../../../schemas/counters.ts'
import { COUNTERS_KEPT_MS } from '../../core/counters.ts'
import { parseReport, reportName, reportsOf } from '../parse-report.ts'
import type { CounterStore } from '../ports.ts'
import { forEachBounded } from '../ranges.ts'
import type { S3Bucket } from './bucket.ts'

const FOLDER = 'counters/'
const REQUESTS_MAX = 8

/** One object a reader and side, `counters/<watch>,<side>,<reader>`, as old as the server says. */
export class S3Counters implements CounterStore {
  readonly #bucket: S3Bucket

  constructor(bucket: S3Bucket) {
    this.#bucket = bucket
  }

  async put(report: CounterReport): Promise<void> {
    await this.#bucket.put(FOLDER + reportName(report), Buffer.from(JSON.stringify(report)), null)
  }

  async list(watchId: string): Promise<CounterReport[]> {
    const { objects } = await this.#bucket.list(FOLDER + reportsOf(watchId))
    const reports: CounterReport[] = []
    await forEachBounded(objects, REQUESTS_MAX, async ({ name }) => {
      const found = await this.#bucket.get(name)
      const report = found === null ? null : parseReport(found.bytes.toString(), watchId)
      if (report !== null) reports.push(report)
    })
    return reports
  }

  async drop(watchId: string): Promise<void> {
    const { objects } = await this.#bucket.list(FOLDER + reportsOf(watchId))
    await forEachBounded(objects, REQUESTS_MAX, ({ name }) => this.#bucket.delete(name))
  }

  async dropExpired(keptMs = COUNTERS_KEPT_MS): Promise<void> {
    const { objects, now } = await this.#bucket.list(FOLDER)
    const expired = objects.filter(({ modifiedAt }) => modifiedAt.getTime() < now.getTime() - keptMs)
    await forEachBounded(expired, REQUESTS_MAX, ({ name }) => this.#bucket.delete(name))
  }
}
