import type { Manifest } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import { watermarkStillThere } from '../src/changelog/watermark.ts'
import { wantsApproval } from '../src/core/approval.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { judgementOf } from '../src/core/judgement.ts'
import { activeHold } from '../src/registry/active-hold.ts'
import { type ApprovalRow, approvalFlippedBy, approvalOf } from '../src/registry/approvals.ts'
import { gateResults } from '../src/registry/gate-results.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { requirePacks, requireTrees, sharesLayout } from '../src/snapshot/differences.ts'
import { indexSources } from '../src/snapshot/read.ts'
import { openStore } from '../src/stores/open.ts'
import type { Store } from '../src/stores/ports.ts'
import { damageOf } from './damage.ts'
import { type Deps, datasetOf, storeUrl } from './deps.ts'
import { asActivity } from './failure.ts'
import { type FlipFrom, parentOf, readManifest, requireStillActive } from './parent.ts'
import { underApplied, underPolicy } from './under-policy.ts'

export interface PreflipRequest {
  /** Left out by refreshes from before there were approvals. */
  refreshId?: string
  dataset: string
  from: FlipFrom
  version: VersionRef
  /** Readers were on it before: its evidence is as old as it is, so instead every block is read again. */
  isAgain?: boolean
}

/** The last look before the flip: that what the gates judged is what would be flipped to, and that nothing came in between. */
export const preflip =
  (own: Deps) =>
  ({ refreshId, dataset, from, version, isAgain = false }: PreflipRequest): Promise<void> =>
    asActivity(async (tell, signal) => {
      const deps = await (refreshId === undefined
        ? underApplied(own, dataset)
        : underPolicy(own, { dataset, refreshId }))
      const todo = isAgain ? `\`snapflip versions ${dataset}\` lists the others.` : 'Refresh again.'
      const refuse = (expected: string, found: string) =>
        new SnapflipError(
          'PREFLIP_REFUSED',
          `${version.tag} of ${dataset} is not flipped to: expected ${expected}, found ${found}. ${todo}`,
          { dataset, tag: version.tag },
        )
      const store = await deps.store(dataset)
      const row = await versionRow(deps.pool, dataset, version.tag)
      if (row.manifestSha256 !== version.manifest || row.digest !== version.digest) {
        throw refuse(`manifest ${version.manifest}`, `${row.manifestSha256} in the registry`)
      }
      const mayBe = isAgain ? ['retained'] : ['sealed', 'candidate']
      if (!mayBe.includes(row.state))
        throw refuse(isAgain ? 'a retained version' : 'a sealed version', `it ${row.state}`)

      const results = await gateResults(deps.pool, dataset, version.tag)
      const { verdict } = judgementOf(results)
      if (results.length === 0) throw refuse('the evidence of its gates', 'none')
      const definition = datasetOf(deps.config, dataset)
      const wanted = wantsApproval(definition.approval, verdict)
      if (verdict === 'reject' || (verdict === 'hold' && !wanted)) throw refuse('gates that passed', verdict)
      const approved = !wanted
        ? null
        : isAgain
          ? await approvalFlippedBy(deps.pool, row)
          : await approvedBy(deps, { refreshId, version })
      if (wanted && approved === null) {
        const expected = isAgain
          ? 'an approval by which readers came to be on it'
          : 'an approval of what its gates judged, not expired'
        throw refuse(expected, 'none')
      }
      const oldest = Math.min(...results.map((result) => result.at.getTime()))
      const maxAgeMs = definition.evidenceMaxAgeMs
      // A person who said yes has looked at it since, and vouches for it that long.
      const vouchedAt = Math.max(oldest, approved?.decidedAt?.getTime() ?? 0)
      if (!isAgain && Date.now() - vouchedAt > maxAgeMs)
        throw refuse(`evidence younger than ${maxAgeMs} ms`, `it ${Date.now() - vouchedAt} ms old`)
      // They cannot vouch for what the store has kept of it meanwhile.
      if (!isAgain && Date.now() - oldest > maxAgeMs) {
        const damage = await damageOf(store, { dataset, tell, signal }, version)
        if (damage !== null) throw refuse('all of it in the store still', damage)
      }

      tell('reading manifest and pages')
      const manifest = await readWhole(deps, store, dataset, version).catch((error: unknown) => {
        if (!isSnapflipError(error, 'CORRUPT') && !isSnapflipError(error, 'VERSION_RETIRED')) throw error
        throw refuse('the manifest and pages that its gates saw', error.message)
      })
      const damage = isAgain ? await damageOf(store, { dataset, tell, signal }, version) : null
      if (damage !== null) throw refuse('every block as it was sealed', damage)
      const client = await deps.builder()
      try {
        if (!(await watermarkStillThere(client, manifest.watermark)))
          throw refuse('its watermark in the database', 'none')
      } finally {
        await client.end()
      }
      const pointer = (await store.pointer.read())?.pointer ?? null
      // Before the hold that a rollback leaves too: that it came is what there is to tell.
      requireStillActive(pointer, dataset, from)
      const hold = await activeHold(deps.pool, dataset)
      const held = hold ?? pointer?.hold ?? null
      if (held !== null) {
        throw new SnapflipError(
          'ON_HOLD',
          `${dataset} is on hold by ${held.by} (${held.reason}), expected no hold. \`snapflip resume ${dataset}\` lifts it.`,
          { dataset },
        )
      }
      if (pointer?.quarantined.includes(version.tag))
        throw refuse('a version that is not quarantined', 'it quarantined')
      // Cancelled meanwhile: the last moment at which nothing has happened yet.
      signal.throwIfAborted()
    })

/** The yes that this version has from a person, if it counts still. The flip's transaction uses it up, and looks at all of it again. */
async function approvedBy(
  { pool }: Deps,
  { refreshId, version }: { refreshId: string | undefined; version: VersionRef },
): Promise<ApprovalRow | null> {
  const row = refreshId === undefined ? null : await approvalOf(pool, refreshId)
  const counts =
    row?.decision === 'approved' && row.manifestSha256 === version.manifest && row.digest === version.digest
  return counts && row.expiresAt > new Date() ? row : null
}

/**
 * The manifest, after reading every page and node that this version wrote, each checked against its parent's hash, and a byte of each pack. Pages
 * that it shares are those of the active version, which readers hold and which were looked at before its own flip. Throws CORRUPT.
 */
async function readWhole(deps: Deps, store: Store, dataset: string, version: VersionRef): Promise<Manifest> {
  const manifest = await readManifest(store, dataset, version)
  const { tag } = manifest
  const parent = await parentOf(store, manifest)
  for (const [index, built] of Object.entries(manifest.indexes)) {
    const where = { dataset, index, tag }
    const former = built.build === 'full' ? undefined : parent?.indexes[index]
    if (former !== undefined && sharesLayout(built, former)) await requireTrees(store.data, where, built, former)
    else await indexSources(store.data, where, built)
  }
  if (store.data.layout === 'keys') return manifest
  // By a store of its own: a folder's files that are open in this process can be read long after they are gone.
  const own = await openStore(storeUrl(deps.config, dataset), { dataset })
  try {
    await requirePacks(own.data, { dataset, index: '(all)', tag }, manifest.sources)
  } finally {
    await own.close()
  }
  return manifest
}
