import type pg from 'pg'
import type { DatasetDefinition } from '../../schemas/config.ts'
import type { Anchor, Epoch } from '../../schemas/pointer.ts'
import { wantsApproval } from '../core/approval.ts'
import { SnapflipError } from '../core/errors.ts'
import { activeHold, onHold } from './active-hold.ts'
import { approvalFlippedBy } from './approvals.ts'
import { openCanary } from './canaries.ts'
import { currentDefinition } from './current-definition.ts'
import { lockDataset } from './dataset-lock.ts'
import { type FlipKind, type FlipResult, type FlipRow, flipOf } from './flips.ts'
import { historyHead } from './history-head.ts'
import { issueEpoch } from './issue-epoch.ts'
import { quarantineOf } from './quarantine.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'
import { type VersionRow, version } from './version.ts'

/** What is recorded before a store is touched. */
export interface FlipIntent {
  flipId: string
  dataset: string
  kind: FlipKind
  /** Null: the dataset's first flip. */
  from: string | null
  to: string
  reason: string | null
  /** Null: the database's session_user. */
  actor: string | null
  /** The refresh it belongs to, which must be open. */
  refreshId?: string
  /** The manifest that the pointer will name: the version must still be sealed with it. */
  manifestSha256?: string
  /** The run of the workflow that was allowed to ask for it, where no refresh was opened: what compensates it nobody has to allow. */
  runId?: string
  /** How long its version is watched afterwards, in milliseconds; without it there is no bake. */
  bakeMs?: number
}

/** What the pointer is to carry. */
export interface IntendedFlip {
  epoch: Epoch
  outcome: FlipResult | null
  anchor: Anchor
  /** Null: no bake was declared. */
  bakeUntil: Date | null
}

/**
 * Issues the epoch of a flip or rollback and records that it is wanted, before any store is touched. Again for the same flip
 * id: the same epoch, and the outcome if it was settled meanwhile. The epoch counts as issued when the transaction has committed.
 *
 * @throws SnapflipError ON_HOLD (flips only), VERSION_QUARANTINED, VERSION_RETIRED, PREFLIP_REFUSED (not sealed, or its gates did not
 *   pass), SUPERSEDED (the refresh is closed, or the flip was ruled out), CONFLICT (the id was used for another flip).
 */
export async function intendFlip(db: Db, intent: FlipIntent): Promise<IntendedFlip> {
  return transaction(db, async (client) => {
    const { flipId, dataset, kind, from, to, reason, actor, refreshId, runId, bakeMs } = intent
    await lockDataset(client, dataset)
    const known = await flipOf(client, flipId)
    if (known !== null) {
      if (known.dataset !== dataset || known.kind !== kind || known.from !== from || known.to !== to)
        throw usedBefore(intent, known)
      // Not made yet, and its refresh ended without it: it never shall be.
      if (known.outcome === null && refreshId !== undefined) await requireOpenRefresh(client, dataset, refreshId)
      const anchor = await historyHead(client)
      const { outcome, bakeUntil } = known
      return { epoch: { registry: known.epoch, breakGlass: 0 }, outcome, anchor, bakeUntil }
    }
    await requireNotRuledOut(client, intent)
    if (refreshId !== undefined) await requireOpenRefresh(client, dataset, refreshId)
    const target = await version(client, dataset, to)
    await requireFree(client, target)
    requireSameManifest(intent, target)
    const approvalId = kind === 'flip' ? await requireAllowed(client, target, intent) : null
    if (kind !== 'flip') requireRetained(target, kind === 'drill' ? null : from)
    const epoch = await issueEpoch(client, dataset)
    const values = [
      flipId,
      dataset,
      kind,
      from,
      to,
      epoch,
      refreshId ?? null,
      reason,
      actor,
      bakeMs ?? null,
      runId ?? null,
    ]
    const { rows } = await client.query<{ bakeUntil: Date | null }>(INTEND, values)
    const bakeUntil = rows[0]?.bakeUntil ?? null
    await record(client, {
      dataset,
      actor,
      kind: `${kind}.intended`,
      version: to,
      detail: {
        ...{ flipId, from, to, epoch, reason, refreshId: refreshId ?? null },
        ...(approvalId && { approvalId }),
        ...(bakeUntil && { bakeUntil }),
      },
    })
    // With the entry of this flip: whoever cuts it off later is found out by the pointer.
    return { epoch: { registry: epoch, breakGlass: 0 }, outcome: null, anchor: await historyHead(client), bakeUntil }
  })
}

const INTEND = `
  insert into snapflip.flip_intents (id, dataset, kind, from_tag, to_tag, epoch, refresh_id, reason, actor, bake_until, detail)
  values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, session_user),
          clock_timestamp() + make_interval(secs => $10 / 1000.0),
          case when $11::text is not null then jsonb_build_object('runId', $11::text) end)
  returning bake_until as "bakeUntil"`

/** Whoever wanted it was told that it failed: an attempt that was only paused does not make it come true behind their back. */
async function requireNotRuledOut(client: pg.ClientBase, { dataset, flipId, kind, to }: FlipIntent): Promise<void> {
  const { rows } = await client.query<{ at: Date }>('select at from snapflip.ruled_out_flips where flip_id = $1', [
    flipId,
  ])
  const ruledOut = rows[0]
  if (ruledOut === undefined) return
  throw new SnapflipError(
    'SUPERSEDED',
    `Expected ${kind} ${flipId} of ${dataset} to ${to} to be waited for, found it given up at ${ruledOut.at.toISOString()}. ` +
      'It is never made; start another one.',
    { dataset, flipId, to },
  )
}

/** Neither flips nor rollbacks go to a quarantined or retired version. */
export async function requireFree(db: Db, { dataset, tag, state }: VersionRow): Promise<void> {
  const look = `\`snapflip versions ${dataset}\` lists what is left.`
  if (state === 'retired' || state === 'swept') {
    throw new SnapflipError(
      'VERSION_RETIRED',
      `Expected a kept version of ${dataset}, found ${tag} ${state}. ${look}`,
      {
        dataset,
        tag,
        state,
      },
    )
  }
  const quarantine = await quarantineOf(db, dataset, tag)
  if (quarantine === null) return
  throw new SnapflipError(
    'VERSION_QUARANTINED',
    `Expected a version of ${dataset} that is not quarantined, found ${tag} quarantined by ${quarantine.by}: ${quarantine.reason}. ` +
      `If it is good after all, \`snapflip release ${dataset} ${tag} --reason …\`; ${look}`,
    { dataset, tag, by: quarantine.by, reason: quarantine.reason },
  )
}

export function requireSameManifest(
  { dataset, to, manifestSha256 }: Pick<FlipIntent, 'dataset' | 'to' | 'manifestSha256'>,
  target: VersionRow,
): void {
  if (manifestSha256 === undefined || manifestSha256 === target.manifestSha256) return
  throw new SnapflipError(
    'PREFLIP_REFUSED',
    `Expected ${to} of ${dataset} to be sealed with manifest ${manifestSha256}, found ${target.manifestSha256 ?? 'none'}. ` +
      `See \`snapflip show ${dataset} ${to}\`.`,
    { dataset, tag: to, manifest: target.manifestSha256, expected: manifestSha256 },
  )
}

/**
 * Readers never get a version whose gates did not pass; what a waiver let pass counts for as long as it lasts, and what a gate holds goes on by a
 * person's yes alone, where the policy asks for one.
 *
 * @param again readers were on it before.
 * @returns what its gates said, of which one that holds was answered with that yes.
 */
export async function requirePassed(
  client: pg.ClientBase,
  { dataset, tag, state, digest, manifestSha256, sealedManifestSha256 }: VersionRow,
  again = false,
): Promise<'pass' | 'hold'> {
  const hold = await activeHold(client, dataset)
  if (hold !== null) throw onHold(dataset, hold)
  const { rows } = await client.query<{ results: number; failed: string[]; held: boolean; approved: boolean }>(
    `select count(*)::integer as results,
            coalesce(array_agg(gate_verdicts.gate order by position) filter (
              where verdict in ('hold', 'reject') and coalesce(until <= clock_timestamp(), true)
            ), '{}') as failed,
            coalesce(bool_and(verdict = 'hold') filter (
              where verdict in ('hold', 'reject') and coalesce(until <= clock_timestamp(), true)
            ), false) as held,
            exists (
              select from snapflip.approval_requests
               where approval_requests.dataset = $1 and approval_requests.tag = $2 and digest = $3 and manifest_sha256 = $4
                 and decision = 'approved' and (expires_at > clock_timestamp() or ($5 and used_by is not null))
            ) as approved
       from snapflip.gate_verdicts left join snapflip.waivers on waivers.id = waiver
      where gate_verdicts.dataset = $1 and gate_verdicts.tag = $2`,
    [dataset, tag, digest, again ? sealedManifestSha256 : manifestSha256, again],
  )
  const { results, failed, held, approved } = rows[0] ?? { results: 0, failed: [], held: false, approved: false }
  const isJudged =
    state === 'sealed' ||
    (again && state === 'retained') ||
    (state === 'candidate' && (await openCanary(client, dataset))?.verdict != null)
  if (isJudged && results > 0 && failed.length === 0) return 'pass'
  if (isJudged && held && approved && wantsApproval(await approvalPolicy(client, dataset), 'hold')) return 'hold'
  const found =
    results === 0
      ? 'no gate results'
      : failed.length > 0
        ? `a verdict against it from ${failed.join(', ')}`
        : state === 'candidate'
          ? 'a canary that is not judged'
          : 'all passed'
  throw new SnapflipError(
    'PREFLIP_REFUSED',
    `Expected ${tag} of ${dataset} to be sealed and to have passed its gates, found it ${state}, gates: ${found}. ` +
      `See \`snapflip show ${dataset} ${tag}\`.`,
    { dataset, tag, state, gates: results, failed },
  )
}

/**
 * Where the policy in force asks for a person's yes, this flip uses it up; one to a version that readers were on goes by the yes that took them there.
 *
 * @returns that approval; null where it needs none.
 */
async function requireAllowed(client: pg.ClientBase, target: VersionRow, intent: FlipIntent): Promise<string | null> {
  const { flipId, refreshId } = intent
  const verdict = await requirePassed(client, target, refreshId === undefined)
  if (!wantsApproval(await approvalPolicy(client, target.dataset), verdict)) return null
  if (refreshId !== undefined) return requireApproval(client, target, { flipId, refreshId })
  const approvalId = (await approvalFlippedBy(client, target))?.approvalId
  if (approvalId !== undefined) return approvalId
  const { dataset, tag } = target
  throw new SnapflipError(
    'PREFLIP_REFUSED',
    `Expected an approval by which readers came to be on ${tag} of ${dataset} before, found none, and its policy asks for one. ` +
      `\`snapflip refresh ${dataset} --full\` makes a version that can be approved.`,
    { dataset, tag },
  )
}

async function approvalPolicy(client: pg.ClientBase, dataset: string): Promise<DatasetDefinition['approval']> {
  return (await currentDefinition(client, dataset))?.definition.approval
}

/** Uses it up: of one yes comes one flip, of exactly what the yes was to. */
async function requireApproval(
  client: pg.ClientBase,
  { dataset, tag, digest, manifestSha256 }: Pick<VersionRow, 'dataset' | 'tag' | 'digest' | 'manifestSha256'>,
  { flipId, refreshId }: { flipId: string; refreshId: string },
): Promise<string> {
  const values = [refreshId, tag, digest, manifestSha256, flipId]
  const { rows } = await client.query<{ id: string | null }>(
    'select snapflip.use_approval($1, $2, $3, $4, $5) as id',
    values,
  )
  const approvalId = rows[0]?.id ?? null
  if (approvalId !== null) return approvalId
  throw notApproved({ dataset, tag, manifestSha256 }, refreshId ?? null)
}

export function notApproved(
  { dataset, tag, manifestSha256 }: Pick<VersionRow, 'dataset' | 'tag' | 'manifestSha256'>,
  refreshId: string | null,
): SnapflipError {
  return new SnapflipError(
    'PREFLIP_REFUSED',
    `Expected an approval of ${tag} of ${dataset} with manifest ${manifestSha256}, given, not expired and not used, found none. ` +
      `See \`snapflip show ${dataset} ${tag}\`.`,
    { dataset, tag, manifest: manifestSha256, refreshId },
  )
}

/** Active: the flip away from it happened in the store and was not settled here yet. */
function requireRetained({ dataset, tag, state }: VersionRow, from: string | null): void {
  if ((state === 'retained' || state === 'active') && tag !== from) return
  throw new SnapflipError(
    'CONFLICT',
    `Expected a version of ${dataset} that was active before ${from ?? 'any'}, found ${tag} ${state}. ` +
      `\`snapflip versions ${dataset}\` lists them.`,
    { dataset, tag, state, from },
  )
}

function usedBefore(intent: FlipIntent, known: FlipRow): SnapflipError {
  const say = (flip: { kind: FlipKind; from: string | null; to: string }) =>
    `${flip.kind} ${flip.from ?? 'nothing'} → ${flip.to}`
  return new SnapflipError(
    'CONFLICT',
    `Expected flip ${intent.flipId} to be ${say(intent)}, found it recorded as ${say(known)}. Start another one.`,
    { flipId: intent.flipId, dataset: known.dataset, from: known.from, to: known.to },
  )
}
