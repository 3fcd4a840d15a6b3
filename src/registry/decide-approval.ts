import { type ErrorCode, SnapflipError } from '../core/errors.ts'
import { forbidden } from './authorize.ts'
import { type Db, transaction } from './transaction.ts'

/** A person's answer, and what they looked at. */
export interface Decision {
  dataset: string
  tag: string
  decision: 'approved' | 'rejected'
  reason: string
  /** Of the manifest that the person looked at, as it is in the store. */
  digest: string
  manifestSha256: string
}

type Refusal = 'none' | 'used' | 'decided before' | 'expired' | 'closed' | 'own' | 'unverified' | 'other'

interface Decided {
  outcome: 'decided' | 'forbidden' | Refusal
  actor: string
  needed: string | null
  has: string | null
  policy: number | null
  /** What it found instead. */
  finding: string | null
}

/**
 * Answers the request that waits for this version, as whoever is connected. All that can be said against it is looked at by the registry's own
 * function, which records a refusal too.
 *
 * @throws SnapflipError FORBIDDEN (no role for it, one's own request, or one that nobody verifiably made), APPROVAL_REFUSED.
 */
export async function decideApproval(db: Db, asked: Decision): Promise<{ actor: string }> {
  const { dataset, tag, decision, reason, digest, manifestSha256 } = asked
  // Read after the commit: the entry of a refusal stays.
  const decided = await transaction(db, async (client) => {
    const values = [dataset, tag, decision, reason, digest, manifestSha256]
    const { rows } = await client.query<Decided>(
      'select * from snapflip.decide_approval($1, $2, $3, $4, $5, $6)',
      values,
    )
    return rows[0]
  })
  if (decided === undefined) throw new Error('snapflip.decide_approval returned nothing')
  const { outcome, actor } = decided
  if (outcome === 'decided') return { actor }
  if (outcome === 'forbidden') throw forbidden({ dataset, action: 'approve', version: tag }, decided)
  const [code, message] = REFUSALS[outcome](`${tag} of ${dataset}`, decided.finding ?? 'nothing', actor)
  const details = { dataset, tag, actor, decision, why: outcome, found: decided.finding }
  throw new SnapflipError(code, `${message} See \`snapflip show ${dataset} ${tag}\`.`, details)
}

const REFUSALS: Record<Refusal, (what: string, found: string, actor: string) => [ErrorCode, string]> = {
  none: (what) => ['APPROVAL_REFUSED', `Expected ${what} to wait for an approval, found that nobody asked for one.`],
  used: (what, found) => [
    'APPROVAL_REFUSED',
    `Expected ${what} to wait for an approval, found its approval used up by flip ${found}.`,
  ],
  'decided before': (what, found) => [
    'APPROVAL_REFUSED',
    `Expected ${what} to wait for an approval, found it ${found} already.`,
  ],
  expired: (what, found) => [
    'APPROVAL_REFUSED',
    `Expected ${what} to wait for an approval, found that the request expired at ${found}. Refresh again.`,
  ],
  closed: (what, found) => [
    'APPROVAL_REFUSED',
    `Expected the refresh of ${what} to wait for an approval, found it ended as ${found}. Refresh again.`,
  ],
  own: (what, found) => [
    'FORBIDDEN',
    `Expected somebody other than ${found} to approve ${what}, who asked for it. Ask another approver.`,
  ],
  unverified: (what, found, actor) => [
    'FORBIDDEN',
    `Expected ${what} to be asked for by a login or a schedule, found ${found}, which may be anybody, ${actor} too. Refresh again with \`snapflip refresh\`.`,
  ],
  other: (what, found) => [
    'APPROVAL_REFUSED',
    `Expected ${what} with the digest and manifest whose approval was asked for, found manifest ${found}. It is another version than its gates judged.`,
  ],
}
