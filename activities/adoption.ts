import { setTimeout as sleep } from 'node:timers/promises'
import type { Pointer } from '../schemas/pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import { reportsOfLate } from '../src/stores/reports-of-late.ts'

const POLL_MS = 250

/** Where readers are, as far as they tell. */
export interface Adoption {
  /** Unexpired pins (leases) by the version they hold: they stay there until they end, whatever was flipped. */
  pinned: Record<string, number>
  /** Readers that reported of late, and those of them that report from the version that is active now. */
  reporting: number
  followed: number
  summary: string
}

/**
 * Readers follow the pointer within their follow lag, and report from what they follow, unless they may not write; those that pin hold a lease on
 * their version, by which they are counted. A version that was rolled back from, and that pins hold still, is told: they go on reading it.
 *
 * @param waitMs how long to wait for the reports of readers that have not followed yet.
 */
export async function adoptionOf(
  store: Store,
  pointer: Pointer | null,
  { waitMs = 0, signal }: { waitMs?: number; signal?: AbortSignal } = {},
): Promise<Adoption> {
  const readers = await followers(store, pointer, waitMs, signal)
  const pinned: Record<string, number> = {}
  for (const { tag, kind } of await store.leases.list()) {
    if (tag !== null && kind === 'reader') pinned[tag] = (pinned[tag] ?? 0) + 1
  }
  const bad = Object.entries(pinned).filter(([tag]) => pointer?.quarantined.includes(tag))
  const held = bad.map(([tag, count]) => `${count} on ${tag}`).join(', ')
  const { reporting, followed } = readers
  const follow =
    reporting === 0
      ? 'readers follow the pointer within their follow lag, none of them reports'
      : `${followed} of ${reporting} readers report from ${pointer?.active?.tag}`
  const summary =
    held === ''
      ? `No pin holds a quarantined version; ${follow}.`
      : `Pins still read what is quarantined (${held}): they end with the work that took them; ${follow}.`
  return { pinned, reporting, followed, summary }
}

/** By the reports of the last flip, and those of the one before that were put of late. */
async function followers(
  store: Store,
  pointer: Pointer | null,
  waitMs: number,
  signal: AbortSignal | undefined,
): Promise<Pick<Adoption, 'reporting' | 'followed'>> {
  const [last, before] = pointer?.flips ?? []
  if (last === undefined) return { reporting: 0, followed: 0 }
  const reports = before === undefined ? [] : await reportsOfLate(store, before.flipId)
  const were = reports.map(({ readerId }) => readerId)
  const until = performance.now() + waitMs
  for (;;) {
    const now = new Set((await store.counters.list(last.flipId)).map(({ readerId }) => readerId))
    const missing = were.filter((readerId) => !now.has(readerId)).length
    if (missing === 0 || performance.now() >= until) return { reporting: now.size + missing, followed: now.size }
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal })
  }
}
