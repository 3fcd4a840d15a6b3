import type { CounterReport } from '../schemas/counters.ts'
import type { Deps } from './deps.ts'

/**
 * What readers reported of a watch, in whichever store they read: of each reader and side the last report. A further store that does not answer is
 * left out, with the readers there.
 */
export async function reportsOf(
  deps: Pick<Deps, 'store' | 'furtherStores' | 'log'>,
  dataset: string,
  watchId: string,
): Promise<CounterReport[]> {
  const lists = [await (await deps.store(dataset)).counters.list(watchId)]
  for (const { name, store } of await deps.furtherStores(dataset)) {
    try {
      lists.push(await store.counters.list(watchId))
    } catch (error) {
      deps.log.warn({ err: error, dataset, store: name, watchId }, 'counters could not be read')
    }
  }
  const last = new Map<string, CounterReport>()
  for (const report of lists.flat().toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at)))
    last.set(`${report.side} ${report.readerId}`, report)
  return [...last.values()]
}
