import type { Watermark } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import type { VersionState } from '../core/version-state.ts'
import { type Db, select } from './transaction.ts'

/** A version as the registry knows it; its blocks are in the stores. */
export interface VersionRow {
  dataset: string
  tag: string
  ordinal: number
  state: VersionState
  stateAt: Date
  /** Null for one that was found in the store. */
  refreshId: string | null
  parent: string | null
  /** These six are null until it is sealed; watermark, generation and counts may be for one that was found in the store. */
  digest: string | null
  manifestSha256: string | null
  /** The same, but for a version that was copied back, or lies where the store took another's place: what its gates and whoever approved it saw. */
  sealedManifestSha256: string | null
  generation: string | null
  watermark: Watermark | null
  counts: Record<string, unknown> | null
  createdAt: Date
  sealedAt: Date | null
}

export const VERSION_COLUMNS = `
  dataset, tag, ordinal, state, state_at as "stateAt", refresh_id as "refreshId", parent, digest,
  manifest_sha256 as "manifestSha256", coalesce(sealed_manifest_sha256, manifest_sha256) as "sealedManifestSha256", generation, watermark, counts, created_at as "createdAt", sealed_at as "sealedAt"`

/** @throws SnapflipError UNKNOWN_VERSION */
export async function version(db: Db, dataset: string, tag: string): Promise<VersionRow> {
  const rows = await select<VersionRow>(
    db,
    `select ${VERSION_COLUMNS} from snapflip.index_versions where dataset = $1 and tag = $2`,
    [dataset, tag],
  )
  const row = rows[0]
  if (row === undefined) {
    throw new SnapflipError(
      'UNKNOWN_VERSION',
      `Expected a version of ${dataset}, found none tagged ${tag}. \`snapflip versions ${dataset}\` lists them.`,
      { dataset, tag },
    )
  }
  return row
}

/**
 * Hashes that its manifest may have in the first store, the recorded one first. Where it was copied back into a server that only answered in the
 * place of the right one, that has it as it was sealed.
 */
export function manifestsOf(row: VersionRow): string[] {
  const hashes = [row.manifestSha256, row.sealedManifestSha256].filter((hash) => hash !== null)
  return [...new Set(hashes)]
}
