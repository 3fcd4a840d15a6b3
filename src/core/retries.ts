import type { Retries } from '../../schemas/retries.ts'
import { ERRORS, type ErrorCode } from './errors.ts'

/** How long to wait before the same is tried again; null: it is not, and why. */
export type AfterFailure = { retryInMs: number } | { retryInMs: null; why: string }

/**
 * Decides what follows the failure of a refresh.
 *
 * @param code null: a failure that is none of ours, which counts as INTERNAL.
 * @param attempt 1 for the first.
 */
export function afterFailure(
  retries: Retries | undefined,
  { code, attempt }: { code: ErrorCode | null; attempt: number },
): AfterFailure {
  if (retries === undefined) return { retryInMs: null, why: 'no retries are declared' }
  const known = code ?? 'INTERNAL'
  if (!(retries.codes?.includes(known) ?? ERRORS[known].retryable))
    return { retryInMs: null, why: `${known} is not retried` }
  if (attempt >= retries.attempts) return { retryInMs: null, why: `${retries.attempts} attempts are used up` }
  return { retryInMs: Math.min(retries.maxMs, Math.round(retries.initialMs * retries.factor ** (attempt - 1))) }
}
