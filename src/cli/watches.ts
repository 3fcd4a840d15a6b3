import type { Pointer } from '../../schemas/pointer.ts'
import type { CanaryRow } from '../registry/canaries.ts'
import type { FlipRow } from '../registry/flips.ts'
import type { Store } from '../stores/ports.ts'

/** A canary or a bake that goes on. */
export interface Watched {
  kind: 'canary' | 'bake'
  tag: string
  /** Of the readers; null in a bake. */
  share: number | null
  until: string | null
  /** Keys looked up in the version, and readers that did, as far as they have reported. */
  reads: number
  readers: number
}

/** What the pointer says is watched, until when by the registry's word, and what readers have counted of it so far. */
export async function watchesOf(
  store: Store,
  pointer: Pointer | null,
  canary: CanaryRow | null,
  lastFlip: FlipRow | null,
): Promise<Watched[]> {
  const watched: Watched[] = []
  const candidate = pointer?.candidate ?? null
  if (candidate !== null) {
    const { canaryId, version, share } = candidate
    const until = canary?.canaryId === canaryId ? canary.endsAt.toISOString() : null
    watched.push({ kind: 'canary', tag: version.tag, share, until, ...(await counted(store, canaryId, version.tag)) })
  }
  // Of a rollback the registry alone has it: its version was a rollback target before.
  const isBaking = lastFlip?.bakeUntil != null && lastFlip.bakeOutcome === null && lastFlip.outcome === 'confirmed'
  if (isBaking && pointer?.flipId === lastFlip.flipId) {
    const { flipId, to, bakeUntil } = lastFlip
    const until = bakeUntil?.toISOString() ?? null
    watched.push({ kind: 'bake', tag: to, share: null, until, ...(await counted(store, flipId, to)) })
  }
  return watched
}

async function counted(store: Store, watchId: string, tag: string): Promise<Pick<Watched, 'reads' | 'readers'>> {
  const reports = (await store.counters.list(watchId)).filter((report) => report.tag === tag)
  const counts = reports.map(({ reads, errors }) => reads + errors).filter((count) => count > 0)
  return { reads: counts.reduce((sum, count) => sum + count, 0), readers: counts.length }
}

export function watchText({ tag, share, until, reads, readers }: Watched): string {
  const who = share === null ? tag : `${tag} for ${Number((share * 100).toPrecision(3))} % of the readers`
  const left = until === null ? '' : `, ${timeLeft(Date.parse(until) - Date.now())}`
  return `${who}${left}: ${reads} reads by ${readers} readers so far`
}

function timeLeft(ms: number): string {
  if (ms <= 0) return 'its time is over'
  const s = Math.ceil(ms / 1000)
  return s < 120 ? `${s} s left` : `${Math.ceil(s / 60)} min left`
}
