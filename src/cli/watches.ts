import type { Pointer } from '../../schemas/pointer.ts'
import type { CanaryRow } from '../registry/canaries.ts'
import type { FlipRow } from '../registry/flips.ts'
import type { Store } from '../stores/ports.ts'

/** A canary or a bake that goes on. */
export interface Watched {
  kind: 'canary' | 'bake'
  tag: string
  /** What comes of how its readers fare. */
  end: 'judged' | 'taken back' | 'told'
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
    const { tag } = version
    const counts = await counted(store, canaryId, tag)
    watched.push({ kind: 'canary', tag, end: 'judged', share, until, ...counts })
  }
  // Of a rollback the registry alone has it: its version was a rollback target before.
  const isBaking = lastFlip?.bakeUntil != null && lastFlip.bakeOutcome === null && lastFlip.outcome === 'confirmed'
  if (isBaking && pointer?.flipId === lastFlip.flipId) {
    const { flipId, kind, to, bakeUntil } = lastFlip
    const until = bakeUntil?.toISOString() ?? null
    // A rollback never moves the pointer again by itself.
    const end = kind === 'rollback' ? 'told' : 'taken back'
    watched.push({ kind: 'bake', tag: to, end, share: null, until, ...(await counted(store, flipId, to)) })
  }
  return watched
}

async function counted(store: Store, watchId: string, tag: string): Promise<Pick<Watched, 'reads' | 'readers'>> {
  const reports = (await store.counters.list(watchId)).filter((report) => report.tag === tag)
  const counts = reports.map(({ reads, errors }) => reads + errors).filter((count) => count > 0)
  return { reads: counts.reduce((sum, count) => sum + count, 0), readers: counts.length }
}

const ENDS: Record<Watched['end'], string> = {
  judged: 'flipped to at its end, judged by how its readers fare',
  'taken back': 'taken back by itself if its readers fare worse',
  told: 'an alert if its readers fare worse',
}

/** A watch under way, in a sentence for people. */
export function watchText({ tag, end, share, until, reads, readers }: Watched): string {
  const who = share === null ? tag : `${tag} for ${Number((share * 100).toPrecision(3))} % of the readers`
  const left = until === null ? '' : `, ${timeLeft(Date.parse(until) - Date.now())}`
  return `${who}${left}: ${reads} reads by ${readers} readers so far; ${ENDS[end]}`
}

function timeLeft(ms: number): string {
  if (ms <= 0) return 'its time is over'
  const s = Math.ceil(ms / 1000)
  return s < 120 ? `${s} s left` : `${Math.ceil(s / 60)} min left`
}
