import type pg from 'pg'

/**
 * A further store becomes the first one: versions have the manifests that their copies have there, and what the first store holds counts as copies.
 * In a transaction that holds the lock of the dataset's row.
 */
export async function promoteStore(
  client: pg.ClientBase,
  { dataset, from, url }: { dataset: string; from: string; url: string },
): Promise<void> {
  await client.query(LEAVE_COPIES, [dataset, from])
  await client.query(TAKE_COPIES, [dataset, url])
  await client.query('delete from snapflip.copies where dataset = $1 and store = $2', [dataset, url])
}

const LEAVE_COPIES = `
  insert into snapflip.copies (dataset, store, tag, manifest_sha256, generation)
  select dataset, $2, tag, manifest_sha256, generation
    from snapflip.index_versions
   where dataset = $1 and manifest_sha256 is not null and generation is not null
     and state not in ('building', 'retired', 'swept')
  on conflict do nothing`

const TAKE_COPIES = `
  update snapflip.index_versions
     set manifest_sha256 = copies.manifest_sha256, generation = copies.generation,
         sealed_manifest_sha256 = coalesce(sealed_manifest_sha256, index_versions.manifest_sha256)
    from snapflip.copies
   where copies.dataset = $1 and copies.store = $2 and index_versions.dataset = $1 and index_versions.tag = copies.tag`
