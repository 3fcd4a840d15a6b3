import { SnapflipError } from '../core/errors.ts'

/** What a writer is told whose generation was deleted while it wrote: nothing of it may be sealed. */
export function generationSwept(generation: string, url: string): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Generation ${generation} in ${url} was swept while it was being written, expected its journal entry. Start the build again.`,
    { generation, store: url },
  )
}

/** Two different contents under one name that is written once. */
export function contentConflict(what: string, url: string): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `${what} in ${url} holds other bytes, expected it absent or equal. Another attempt wrote it.`,
    {
      what,
      store: url,
    },
  )
}
