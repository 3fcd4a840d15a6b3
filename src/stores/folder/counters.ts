import type { CounterReport } from '../../../schemas/counters.ts'
import { COUNTERS_KEPT_MS } from '../../core/counters.ts'
import { parseReport, reportName, reportsOf } from '../parse-report.ts'
import type { CounterStore } from '../ports.ts'
import { absentAs, type DurableFiles } from './files.ts'

const FOLDER = 'counters'

/** One file a reader and side, `counters/<watch>,<side>,<reader>`, by this machine's clock. */
export class FolderCounters implements CounterStore {
  readonly #files: DurableFiles

  constructor(files: DurableFiles) {
    this.#files = files
  }

  put(report: CounterReport): Promise<void> {
    return this.#files.run('writing counters', async () => {
      await this.#files.createFolder(this.#files.path(FOLDER))
      await this.#files.replace(this.#files.path(FOLDER, reportName(report)), Buffer.from(JSON.stringify(report)))
    })
  }

  list(watchId: string): Promise<CounterReport[]> {
    return this.#files.run('listing counters', async () => {
      const reports: CounterReport[] = []
      for (const path of await this.#paths(reportsOf(watchId))) {
        const text = await this.#files.read(path)
        const report = text === null ? null : parseReport(text.toString(), watchId)
        if (report !== null) reports.push(report)
      }
      return reports
    })
  }

  drop(watchId: string): Promise<void> {
    return this.#files.run('dropping counters', async () => {
      for (const path of await this.#paths(reportsOf(watchId))) await this.#files.remove(path)
    })
  }

  dropExpired(keptMs = COUNTERS_KEPT_MS): Promise<void> {
    return this.#files.run('dropping counters', async () => {
      const before = Date.now() - keptMs
      for (const path of await this.#paths('')) {
        const stat = await this.#files.fs.stat(path).catch(absentAs(null))
        if (stat !== null && stat.mtimeMs < before) await this.#files.remove(path)
      }
    })
  }

  async #paths(begin: string): Promise<string[]> {
    const names = await this.#files.list(this.#files.path(FOLDER))
    return names.filter((name) => name.startsWith(begin)).map((name) => this.#files.path(FOLDER, name))
  }
}
