import { type Db, select, transaction } from './transaction.ts'
import type { VersionRow } from './version.ts'

export type ApprovalDecision = 'approved' | 'rejected' | 'expired' | 'withdrawn'

/** One request for a person's yes, and what became of it. */
export interface ApprovalRow {
  approvalId: string
  dataset: string
  tag: string
  refreshId: string
  /** What it is bound to. */
  digest: string
  manifestSha256: string
  why: string
  requestedBy: string
  requestedAt: Date
  /** Of an unanswered request; once approved, of the yes. */
  expiresAt: Date
  /** Null: it waits. */
  decision: ApprovalDecision | null
  /** Null where nobody decided: it expired or was withdrawn. */
  decidedBy: string | null
  decidedAt: Date | null
  reason: string | null
  /** The flip that used it up. */
  usedBy: string | null
}

/** Those of a dataset, newest first; of one version with `tag`. */
export async function approvals(
  db: Db,
  { dataset, tag, waiting = false, limit = 20 }: { dataset: string; tag?: string; waiting?: boolean; limit?: number },
): Promise<ApprovalRow[]> {
  return read(
    db,
    `where dataset = $1 and ($2::text is null or tag = $2) and (not $3 or decision is null) order by requested_at desc limit $4`,
    [dataset, tag ?? null, waiting, limit],
  )
}

/** The one that a refresh asked for; null when it asked for none. */
export async function approvalOf(db: Db, refreshId: string): Promise<ApprovalRow | null> {
  return (await read(db, 'where refresh_id = $1', [refreshId]))[0] ?? null
}

/**
 * The newest yes to exactly this that took readers there: whoever gave it let them be on it, wherever the same content lies since. Null: none did, by that flip
 * or without one.
 */
export async function approvalFlippedBy(
  db: Db,
  {
    dataset,
    tag,
    digest,
    sealedManifestSha256,
  }: Pick<VersionRow, 'dataset' | 'tag' | 'digest' | 'sealedManifestSha256'>,
): Promise<ApprovalRow | null> {
  const rows = await read(
    db,
    `where dataset = $1 and tag = $2 and digest = $3 and manifest_sha256 = $4 and decision = 'approved'
       and exists (select from snapflip.flip_intents where flip_intents.id = used_by and flip_intents.outcome = 'confirmed')
     order by used_at desc limit 1`,
    [dataset, tag, digest, sealedManifestSha256],
  )
  return rows[0] ?? null
}

async function read(db: Db, which: string, values: readonly unknown[]): Promise<ApprovalRow[]> {
  return select<ApprovalRow>(
    db,
    `select id as "approvalId", dataset, tag, refresh_id as "refreshId", digest, manifest_sha256 as "manifestSha256", why,
            requested_by as "requestedBy", requested_at as "requestedAt", expires_at as "expiresAt", decision,
            decided_by as "decidedBy", decided_at as "decidedAt", reason, used_by as "usedBy"
       from snapflip.approval_requests ${which}`,
    values,
  )
}

/** Asks for the approval of a version that an open refresh has sealed, with this manifest. Again: nothing happens. */
export async function askApproval(
  db: Db,
  asked: { refreshId: string; tag: string; manifestSha256: string; why: string; validForMs: number },
): Promise<void> {
  const { refreshId, tag, manifestSha256, why, validForMs } = asked
  await transaction(db, (client) =>
    client.query(`select snapflip.ask_approval($1, $2, $3, $4, make_interval(secs => $5))`, [
      ...[refreshId, tag, manifestSha256, why],
      validForMs / 1000,
    ]),
  )
}

/** Ends an unanswered request, when its time is over or its refresh is. Anything else stays as it is. */
export async function endApproval(db: Db, refreshId: string, ending: 'expired' | 'withdrawn'): Promise<void> {
  await transaction(db, (client) => client.query('select snapflip.end_approval($1, $2)', [refreshId, ending]))
}
