import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/** Records that a version was copied back into the dataset's first store, where it has another manifest than it was sealed with: the same content lies elsewhere. Or that it is there as it was sealed after all, from itself. */
export async function restoreVersion(
  db: Db,
  {
    dataset,
    tag,
    digest,
    manifest,
    generation,
    url,
    from,
  }: { dataset: string; tag: string; digest: string; manifest: string; generation: string; url: string; from: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { manifestSha256: before } = await version(client, dataset, tag)
    const { rowCount } = await client.query(RESTORE, [dataset, tag, digest, manifest, generation])
    if (rowCount === 0) return
    const detail = { store: url, from, manifestSha256: manifest, before, generation }
    await record(client, { dataset, actor: null, kind: 'version.restored', version: tag, detail })
  })
}

/** Only of the same content. */
const RESTORE = `
  update snapflip.index_versions
     set manifest_sha256 = $4, generation = $5, sealed_manifest_sha256 = coalesce(sealed_manifest_sha256, manifest_sha256)
   where dataset = $1 and tag = $2 and digest = $3 and manifest_sha256 <> $4`
