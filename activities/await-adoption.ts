import { setTimeout as sleep } from 'node:timers/promises'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** A reader that reported this long ago, or longer, may have ended since: nobody waits for it. */
const HEARD_OF_MS = 120_000
/** Readers report every 5 s unless told otherwise: three of those. What has not come by then is not waited for. */
const WAIT_MS = 15_000
const POLL_MS = 200

/** How far readers have gone over to a flip. */
export interface Adopted {
  /** Readers that were heard of before the flip, and how many of them have reported from its version. */
  of: number
  readers: number
  /** From the flip to the last of them, by their own clocks; null: none was heard of. */
  toLastReaderMs: number | null
}

/** Waits until all readers that were heard of before a flip have reported from its version, or a while. */
export const awaitAdoption =
  (deps: Deps) =>
  ({
    dataset,
    flipId,
    former,
    at,
  }: {
    dataset: string
    flipId: string
    former: string | null
    at: string
  }): Promise<Adopted> =>
    asActivity(async (tell, signal) => {
      const store = await deps.store(dataset)
      const before = former === null ? new Map<string, Seen>() : await readersOf(store, former)
      const flippedAt = Date.parse(at)
      const expected = [...before].filter(([, seen]) => flippedAt - seen.at < HEARD_OF_MS).map(([id]) => id)
      const until = performance.now() + WAIT_MS
      for (;;) {
        const now = await readersOf(store, flipId)
        const there = expected.filter((id) => now.has(id))
        tell(`${there.length} of ${expected.length} readers`)
        if (there.length === expected.length || performance.now() > until) {
          const last = there.map((id) => (now.get(id) as Seen).since - flippedAt)
          return {
            of: expected.length,
            readers: there.length,
            toLastReaderMs: last.length === 0 ? null : Math.max(0, ...last),
          }
        }
        await sleep(POLL_MS, undefined, { signal })
      }
    })

interface Seen {
  since: number
  at: number
}

/** By reader; what it counted is nobody's business here. */
async function readersOf(store: Store, flipId: string): Promise<Map<string, Seen>> {
  const reports = await store.counters.list(flipId)
  return new Map(reports.map(({ readerId, since, at }) => [readerId, { since: Date.parse(since), at: Date.parse(at) }]))
}
