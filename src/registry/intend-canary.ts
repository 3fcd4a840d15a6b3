import type pg from 'pg'
import type { Verdict } from '../../schemas/refresh.ts'
import { wantsApproval } from '../core/approval.ts'
import { SnapflipError } from '../core/errors.ts'
import { type CanaryRow, canaryOf, openCanary } from './canaries.ts'
import { currentDefinition } from './current-definition.ts'
import { lockDataset } from './dataset-lock.ts'
import { notApproved, requireFree, requirePassed, requireSameManifest } from './intend-flip.ts'
import { issueEpoch } from './issue-epoch.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { type VersionRow, version } from './version.ts'

/** What is recorded before a store is touched. */
export interface CanaryIntent {
  canaryId: string
  dataset: string
  refreshId: string
  tag: string
  /** The manifest that the pointer will name: the version must still be sealed with it. */
  manifestSha256: string
  /** Null: the candidate is only probed. */
  share: number | null
  salt: string
  forMs: number
}

/**
 * Issues the epoch of a canary, makes its version the candidate and records both, before any store is touched. Only a version that passed every
 * other gate, and has the approval it needs by then (of this refresh, and not used), becomes one. Again for the same id: what was recorded.
 *
 * @throws SnapflipError ON_HOLD, VERSION_QUARANTINED, VERSION_RETIRED, PREFLIP_REFUSED (not sealed, its gates did not pass, or no approval), SUPERSEDED
 *   (the refresh is closed), CONFLICT (another canary has no outcome yet).
 */
export async function intendCanary(db: Db, intent: CanaryIntent): Promise<CanaryRow> {
  return transaction(db, async (client) => {
    const { canaryId, dataset, refreshId, tag, share, salt, forMs } = intent
    await lockDataset(client, dataset)
    const known = await canaryOf(client, canaryId)
    if (known !== null) return known
    await requireOpenRefresh(client, dataset, refreshId)
    const target = await version(client, dataset, tag)
    await requireFree(client, target)
    requireSameManifest({ dataset, to: tag, manifestSha256: intent.manifestSha256 }, target)
    await requireApproved(client, target, { refreshId, verdict: await requirePassed(client, target) })
    const open = await openCanary(client, dataset)
    if (open !== null) throw running(open)
    const epoch = await issueEpoch(client, dataset)
    await client.query(INTEND, [canaryId, dataset, tag, refreshId, epoch, share, salt, forMs])
    await changeState(client, { dataset, tag, to: 'candidate' })
    await record(client, {
      dataset,
      actor: null,
      kind: 'canary.begun',
      version: tag,
      detail: { canaryId, refreshId, epoch, share, forMs },
    })
    return (await canaryOf(client, canaryId)) as CanaryRow
  })
}

/** The flip uses it up. What a gate holds is asked about before the canary, whatever else is declared. */
async function requireApproved(
  client: pg.ClientBase,
  target: VersionRow,
  { refreshId, verdict }: { refreshId: string; verdict: Verdict },
): Promise<void> {
  const { dataset, tag, digest, manifestSha256 } = target
  const approval = (await currentDefinition(client, dataset))?.definition.approval
  if (!wantsApproval(approval, verdict) || (approval?.beforeFlip && verdict !== 'hold')) return
  const { rowCount } = await client.query(APPROVED, [refreshId, tag, digest, manifestSha256])
  if (rowCount === 0) throw notApproved(target, refreshId)
}

const APPROVED = `
  select from snapflip.approval_requests
   where refresh_id = $1 and tag = $2 and digest = $3 and manifest_sha256 = $4
     and decision = 'approved' and used_by is null and expires_at > clock_timestamp()`

const INTEND = `
  insert into snapflip.canaries (id, dataset, tag, refresh_id, epoch, share, salt, ends_at)
  values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8 / 1000.0))`

function running({ dataset, canaryId, tag }: CanaryRow): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Expected no canary of ${dataset} without an outcome, found ${canaryId} of ${tag}. The next refresh ends it: \`snapflip refresh ${dataset}\`.`,
    { dataset, canaryId, tag },
  )
}
