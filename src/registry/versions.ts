import type { VersionState } from '../core/version-state.ts'
import { type Db, select } from './transaction.ts'
import { VERSION_COLUMNS, type VersionRow } from './version.ts'

/**
 * Versions of the dataset, newest first: those in these states, with these tags. Without either all that were ever allocated, evidence included:
 * for people and tests, since that grows for ever.
 */
export async function versions(
  db: Db,
  dataset: string,
  only: { states?: readonly VersionState[]; tags?: readonly string[] } = {},
): Promise<VersionRow[]> {
  return select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.index_versions
      where dataset = $1 and ($2::text[] is null or state = any ($2)) and ($3::text[] is null or tag = any ($3))
      order by ordinal desc`,
    [dataset, only.states ?? null, only.tags ?? null],
  )
}

/** The one version of a refresh, once it was allocated. */
export async function versionOfRefresh(db: Db, refreshId: string): Promise<VersionRow | null> {
  const rows = await select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.index_versions where refresh_id = $1`,
    [refreshId],
  )
  return rows[0] ?? null
}
