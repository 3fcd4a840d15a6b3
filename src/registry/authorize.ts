import pg from 'pg'
import type { Action } from '../../schemas/roles.ts'
import { type ErrorDetails, SnapflipError } from '../core/errors.ts'
import { type Db, select } from './transaction.ts'

export interface Asked {
  dataset: string
  action: Action
  /** Tag of the version it is about. */
  version?: string | undefined
  reason?: string | undefined
}

/** What `snapflip.may` said, of whom. */
export interface AuthorizationVerdict {
  allowed: boolean
  actor: string
  /** The least role that may; null where the policy declares no roles. */
  needed: string | null
  has: string | null
  /** Number of the policy that decided; null before the first apply. */
  policy: number | null
}

/**
 * Whether the login of this connection may do it, by the policy in force. The decision is PostgreSQL's (schemas/migrations), which knows who is
 * connected and whom nobody gets round; nothing here decides again.
 *
 * @param db outside any transaction: what takes back the refused action must not take back the entry that says so.
 * @returns who acts, verified.
 * @throws SnapflipError FORBIDDEN, after a history entry `action.refused` was committed.
 */
export async function authorize(db: Db, { dataset, action, version, reason }: Asked): Promise<{ actor: string }> {
  return allowed(db, { dataset, action }, 'select * from snapflip.authorize($1, $2, $3, $4)', [
    dataset,
    action,
    version ?? null,
    JSON.stringify(reason === undefined ? {} : { reason }),
  ])
}

/** The same of an actor whom the caller knows: a ticket's, or `temporal:<identity>`, which is nobody verified. For workers. */
export async function authorizeAs(
  db: Db,
  { dataset, action, version, reason, actor }: Asked & { actor: string },
): Promise<void> {
  await allowed(db, { dataset, action }, 'select * from snapflip.authorize_as($1, $2, $3, $4, $5)', [
    dataset,
    action,
    actor,
    version ?? null,
    JSON.stringify(reason === undefined ? {} : { reason }),
  ])
}

async function allowed(db: Db, asked: Asked, sql: string, values: unknown[]): Promise<{ actor: string }> {
  if (!(db instanceof pg.Pool) && db.getTransactionStatus() !== 'I')
    throw new Error(`expected ${asked.action} to be authorized outside a transaction`)
  const [verdict] = await select<AuthorizationVerdict>(db, sql, values)
  if (verdict === undefined) throw new Error('snapflip.authorize returned nothing')
  if (!verdict.allowed) throw forbidden(asked, verdict)
  return { actor: verdict.actor }
}

export function forbidden(
  { dataset, action }: Asked,
  { actor, needed, has, policy }: Omit<AuthorizationVerdict, 'allowed'>,
): SnapflipError {
  const details: ErrorDetails = { dataset, action, actor, needed, has, policy }
  return new SnapflipError(
    'FORBIDDEN',
    `Expected ${needed} of ${dataset} for ${action}, found ${actor} to be ${has ?? 'nobody'} there (policy ${policy}). ` +
      `Ask somebody who may: \`snapflip policy ${dataset}\` names them.`,
    details,
  )
}
