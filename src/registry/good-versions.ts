import { type IndexEvidence, indexEvidenceSchema } from '../../schemas/evidence.ts'
import { type Db, select } from './transaction.ts'

/**
 * What the last good versions changed of an index, newest first: those that readers were on and that are not quarantined. Builds that found the
 * index unchanged, first ones and those that could not be compared say nothing of what is usual.
 */
export async function goodVersions(
  db: Db,
  { dataset, index, limit }: { dataset: string; index: string; limit: number },
): Promise<Array<{ tag: string; evidence: IndexEvidence }>> {
  const rows = await select<{ tag: string; evidence: unknown }>(
    db,
    `select tag, counts -> $2 as evidence
       from snapflip.index_versions
      where dataset = $1
        and counts -> $2 ->> 'build' <> 'unchanged'
        and (counts -> $2 ->> 'parentCount')::bigint > 0
        and counts -> $2 ->> 'notCompared' is null
        and exists (
          select from snapflip.flip_intents
           where flip_intents.dataset = index_versions.dataset and to_tag = tag and kind = 'flip' and outcome = 'confirmed'
        )
        and not exists (
          select from snapflip.quarantines
           where quarantines.dataset = index_versions.dataset and quarantines.tag = index_versions.tag and lifted_at is null
        )
      order by ordinal desc
      limit $3`,
    [dataset, index, limit],
  )
  return rows.map(({ tag, evidence }) => ({ tag, evidence: indexEvidenceSchema.parse(evidence) }))
}
