import type { Pointer } from '../schemas/pointer.ts'
import type { Store } from '../src/stores/ports.ts'

/** Where readers are, as far as they tell. */
export interface Adoption {
  /** Unexpired pins (leases) by the version they hold: they stay there until they end, whatever was flipped. */
  pinned: Record<string, number>
  summary: string
}

/**
 * Readers follow the pointer within their follow lag and say nothing of it; those that pin hold a lease on their version, by which they are counted. A
 * version that was rolled back from, and that pins hold still, is told: they go on reading it.
 */
export async function adoptionOf(store: Store, pointer: Pointer | null): Promise<Adoption> {
  const pinned: Record<string, number> = {}
  for (const { tag, kind } of await store.leases.list()) {
    if (tag !== null && kind === 'reader') pinned[tag] = (pinned[tag] ?? 0) + 1
  }
  const bad = Object.entries(pinned).filter(([tag]) => pointer?.quarantined.includes(tag))
  const held = bad.map(([tag, count]) => `${count} on ${tag}`).join(', ')
  const summary =
    held === ''
      ? 'No pin holds a quarantined version; readers follow the pointer within their follow lag.'
      : `Pins still read what is quarantined (${held}): they end with the work that took them.`
  return { pinned, summary }
}
