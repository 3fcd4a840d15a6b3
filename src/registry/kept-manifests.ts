import { type Db, select } from './transaction.ts'

/** More than any `keep`; what is beyond it is not measured. */
const KEPT_MAX = 100

/** Tags, with their manifests' SHA-256, of the versions whose blocks are to stay in the store: sealed and not retired. */
export async function keptManifests(db: Db, dataset: string): Promise<Array<{ tag: string; manifest: string }>> {
  return select<{ tag: string; manifest: string }>(
    db,
    `select tag, manifest_sha256 as manifest from snapflip.index_versions
      where dataset = $1 and sealed_at is not null and state not in ('building', 'retired', 'swept')
      order by ordinal desc limit ${KEPT_MAX}`,
    [dataset],
  )
}
