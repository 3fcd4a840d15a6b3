import type pg from 'pg'
import type { Watermark } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'
import { type VersionRow, version } from './version.ts'

/** What makes a version whole: written once. */
export interface Seal {
  dataset: string
  tag: string
  digest: string
  manifestSha256: string
  watermark: Watermark
  parent: string | null
  /** What the build saw of each index (schemas/evidence.ts). */
  counts: object
  /** The generation that sealed it. */
  generation: string
  /** Other generations that it draws on. All others of the refresh are abandoned. */
  adopted?: readonly string[]
  /**
   * The manifest it was sealed with before by an attempt that died before it wrote that manifest: this one takes its place, unless the gates
   * have judged it or a flip was asked for.
   */
  replaces?: string | null
}

/**
 * building → sealed: from here on the version is known by its digest and manifest. The same seal again: nothing happens.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is closed, VERSION_RETIRED for a retired parent, CONFLICT when another attempt sealed
 *   it with another manifest.
 */
export async function sealVersion(db: Db, seal: Seal): Promise<void> {
  await transaction(db, async (client) => {
    const { dataset, tag, digest, manifestSha256, watermark, parent, counts, generation } = seal
    await lockDataset(client, dataset)
    const now = await version(client, dataset, tag)
    if (now.sealedAt !== null && now.manifestSha256 === manifestSha256 && now.digest === digest) return
    await requireOpenRefresh(client, dataset, now.refreshId)
    const unwritten = now.state === 'sealed' && now.manifestSha256 === seal.replaces
    if (now.state !== 'building' && !(unwritten && (await isUntouched(client, dataset, tag))))
      throw sealedByAnother(now, manifestSha256)
    if (parent !== null) await requireKeptParent(client, dataset, tag, parent)
    await client.query(SEAL, [
      dataset,
      tag,
      digest,
      manifestSha256,
      JSON.stringify(watermark),
      parent,
      JSON.stringify(counts),
      generation,
    ])
    await client.query(END_BUILDS, [now.refreshId, [generation, ...(seal.adopted ?? [])]])
    await record(client, {
      dataset,
      actor: null,
      kind: 'version.sealed',
      version: tag,
      detail: {
        refreshId: now.refreshId,
        digest,
        manifestSha256,
        parent,
        generation,
        watermark: { id: watermark.id, snapshot: watermark.snapshot, at: watermark.at },
      },
    })
  })
}

const SEAL = `
  update snapflip.index_versions
     set state = 'sealed', state_at = clock_timestamp(), sealed_at = clock_timestamp(),
         digest = $3, manifest_sha256 = $4, sealed_manifest_sha256 = null, watermark = $5, parent = $6, counts = $7, generation = $8
   where dataset = $1 and tag = $2`

/** Those of a seal that this one replaces are judged again: what only that manifest named is dead. */
const END_BUILDS = `
  update snapflip.builds
     set outcome = case when generation = any ($2) then 'sealed' else 'abandoned' end, ended_at = clock_timestamp()
   where refresh_id = $1 and (outcome is null or outcome = 'sealed')`

/** A paused attempt that had found no manifest may wake when the one that it means to replace was written and judged after all. */
async function isUntouched(client: pg.ClientBase, dataset: string, tag: string): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from snapflip.gate_verdicts where dataset = $1 and tag = $2
     union all
     select from snapflip.flip_intents where dataset = $1 and to_tag = $2
      limit 1`,
    [dataset, tag],
  )
  return rowCount === 0
}

async function requireKeptParent(client: pg.ClientBase, dataset: string, tag: string, parent: string): Promise<void> {
  const { state } = await version(client, dataset, parent)
  if (state !== 'retired' && state !== 'swept') return
  throw new SnapflipError(
    'VERSION_RETIRED',
    `Expected the parent of ${tag} of ${dataset} to be kept, found ${parent} ${state}. Refresh again: it builds from what is kept.`,
    { dataset, tag, parent, state },
  )
}

function sealedByAnother(now: VersionRow, manifestSha256: string): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Expected ${now.tag} of ${now.dataset} to be building, found it ${now.state} with manifest ${now.manifestSha256 ?? 'none'}, ` +
      `not ${manifestSha256}. Another attempt came first; see \`snapflip show ${now.dataset} ${now.tag}\`.`,
    { dataset: now.dataset, tag: now.tag, state: now.state, manifest: now.manifestSha256, expected: manifestSha256 },
  )
}
