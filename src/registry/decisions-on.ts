import { type HistoryEntry, historyEntries } from './history-entries.ts'
import { type Db, select } from './transaction.ts'

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

/**
 * What was decided about a version until a moment, oldest first: by whom, and why. A waiver is of the content: given to an earlier version of the same,
 * it let this one pass.
 */
export async function decisionsOn(db: Db, dataset: string, tag: string, until: Date): Promise<HistoryEntry[]> {
  const found: HistoryEntry[] = []
  const add = async (version: string, kind: string) => {
    found.push(...(await historyEntries(db, { dataset, version, kind, until, limit: DECISIONS_MAX })))
  }
  for (const kind of DECISIONS) await add(tag, kind)
  for (const waived of await select<{ tag: string }>(db, WAIVED, [dataset, tag, DECISIONS_MAX])) {
    await add(waived.tag, 'gate.waived')
  }
  return found.sort((a, b) => a.seq - b.seq)
}

const WAIVED = `
  select distinct waivers.tag
    from snapflip.index_versions join snapflip.waivers on waivers.dataset = index_versions.dataset and waivers.digest = index_versions.digest and waivers.tag <> index_versions.tag
   where index_versions.dataset = $1 and index_versions.tag = $2
   limit $3`
