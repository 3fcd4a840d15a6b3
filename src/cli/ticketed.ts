import { isSnapflipError } from '../core/errors.ts'
import { authorize } from '../registry/authorize.ts'
import { issueTicket } from '../registry/ticket.ts'
import type { Session } from './session.ts'

/** Without the registry nobody can say who asks; the worker judges then by what Temporal knows of them. */
const WITHOUT_REGISTRY = ['POSTGRES_UNREACHABLE', 'PRIVILEGE_MISSING', 'REGISTRY_NOT_MIGRATED'] as const

/**
 * The workflow's request with a ticket that proves who asks for it.
 *
 * @throws SnapflipError FORBIDDEN
 */
export async function ticketed<Request extends { dataset: string; reason?: string }>(
  session: Session,
  action: 'refresh' | 'rollback' | 'flip' | 'drill',
  request: Request,
): Promise<Request & { ticket?: string }> {
  const { dataset, reason } = request
  try {
    const pool = await session.registry()
    await authorize(pool, { dataset, action, reason })
    return { ...request, ticket: await issueTicket(pool, { dataset, action, request }) }
  } catch (error) {
    if (!WITHOUT_REGISTRY.some((code) => isSnapflipError(error, code))) throw error
    session.note(`Asked for as ${session.actor}, which nothing proves: ${(error as Error).message}`)
    return request
  }
}
