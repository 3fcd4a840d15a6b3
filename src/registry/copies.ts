import type { VersionRef } from '../../schemas/pointer.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { type Db, select, transaction } from './transaction.ts'

/** The versions that lie in a further store, by tag, as its pointer names them. */
export async function copies(
  db: Db,
  { dataset, url }: { dataset: string; url: string },
): Promise<Map<string, VersionRef>> {
  const rows = await select<VersionRef>(
    db,
    `select tag, ordinal, digest, copies.manifest_sha256 as manifest
       from snapflip.copies join snapflip.index_versions using (dataset, tag)
      where dataset = $1 and store = $2`,
    [dataset, url],
  )
  return new Map(rows.map((row) => [row.tag, row]))
}

/** Records that a version lies whole in a further store, under this manifest. Known already: nothing happens. */
export async function recordCopy(
  db: Db,
  {
    dataset,
    url,
    tag,
    manifest,
    generation,
    from,
  }: { dataset: string; url: string; tag: string; manifest: string; generation: string; from: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { rowCount } = await client.query(PUT, [dataset, url, tag, manifest, generation])
    if (rowCount === 0) return
    const detail = { store: url, from, manifestSha256: manifest, generation }
    await record(client, { dataset, actor: null, kind: 'version.copied', version: tag, detail })
  })
}

/** Records that copies are not in a further store any more: lost there, or swept after the version was retired. */
export async function forgetCopies(
  db: Db,
  { dataset, url, tags, why }: { dataset: string; url: string; tags: readonly string[]; why: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    const { rows } = await client.query<{ tag: string }>(
      'delete from snapflip.copies where dataset = $1 and store = $2 and tag = any ($3) returning tag',
      [dataset, url, tags],
    )
    for (const { tag } of rows)
      await record(client, { dataset, actor: null, kind: 'copy.gone', version: tag, detail: { store: url, why } })
  })
}

const PUT = `
  insert into snapflip.copies as known (dataset, store, tag, manifest_sha256, generation)
  values ($1, $2, $3, $4, $5)
  on conflict (dataset, store, tag) do update
     set manifest_sha256 = excluded.manifest_sha256, generation = excluded.generation, copied_at = clock_timestamp()
   where known.manifest_sha256 <> excluded.manifest_sha256
  returning tag`
