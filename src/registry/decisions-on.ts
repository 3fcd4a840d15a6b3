import { type HistoryEntry, historyEntries } from './history-entries.ts'
import type { Db } from './transaction.ts'

/** What is decided about a version by persons, by its readers and by what watches them. */
const DECISIONS = [
  'approval',
  'action.refused',
  'gate.waived',
  'canary.passed',
  'canary.refused',
  'bake',
  'quarantine',
  'release',
]
/** Of one kind, about one version: each is somebody's act. */
const DECISIONS_MAX = 100

/** What was decided about a version until a moment, oldest first: by whom, and why. */
export async function decisionsOn(db: Db, dataset: string, tag: string, until: Date): Promise<HistoryEntry[]> {
  const found: HistoryEntry[] = []
  for (const kind of DECISIONS)
    found.push(...(await historyEntries(db, { dataset, version: tag, kind, until, limit: DECISIONS_MAX })))
  return found.sort((a, b) => a.seq - b.seq)
}
