import { isSnapflipError } from '../core/errors.ts'
import { type Asked, authorize } from '../registry/authorize.ts'
import { issueTicket } from '../registry/ticket.ts'
import type { Session } from './session.ts'

/** Without the registry nobody can say who asks; Temporal decides then who may speak to its workflows. */
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
  const ticket = await authorizedWhereKnown(session, { dataset, action, reason }, async () =>
    issueTicket(await session.registry(), { dataset, action, request }),
  )
  return ticket === null ? request : { ...request, ticket }
}

/**
 * What follows where the policy allows it; null, with a note, where there is no registry to ask.
 *
 * @throws SnapflipError FORBIDDEN
 */
export async function authorizedWhereKnown<T>(
  session: Session,
  asked: Asked,
  then: () => Promise<T>,
): Promise<T | null> {
  try {
    await authorize(await session.registry(), asked)
    return await then()
  } catch (error) {
    if (!WITHOUT_REGISTRY.some((code) => isSnapflipError(error, code))) throw error
    session.note(`Asked for as ${session.actor}, which nothing proves: ${(error as Error).message}`)
    return null
  }
}
