import type { CounterReport } from '../../schemas/counters.ts'
import type { Store } from './ports.ts'

/** Readers that said something within this time are there: they report every minute at the least, unless told otherwise. */
export const THERE_MS = 120_000

/** What readers that are there have reported from a flip. */
export async function reportsOfLate(store: Store, flipId: string): Promise<CounterReport[]> {
  const since = Date.now() - THERE_MS
  return (await store.counters.list(flipId)).filter(({ at }) => Date.parse(at) > since)
}
