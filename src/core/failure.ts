import { ERRORS, type ErrorCode } from './errors.ts'

/**
 * What a failure says, whichever layers Temporal wrapped it in: activity failures carry the application failure, and that carries
 * the registry's code as its `type`.
 */
export function rootCause(error: unknown): unknown {
  let at = error
  while (at instanceof Error && at.cause instanceof Error && at.name !== 'ApplicationFailure') at = at.cause
  return at
}

export function failureMessage(error: unknown): string {
  const root = rootCause(error)
  return root instanceof Error ? root.message : String(root)
}

/** The registry's code of a failure; null when it is none of ours. */
export function failureCode(error: unknown): ErrorCode | null {
  const root = rootCause(error)
  const code = root instanceof Error ? ((root as { type?: unknown }).type ?? (root as { code?: unknown }).code) : null
  return typeof code === 'string' && code in ERRORS ? (code as ErrorCode) : null
}
