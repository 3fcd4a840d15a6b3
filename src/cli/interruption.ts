import { SnapflipError } from '../core/errors.ts'

/** Aborts on Ctrl-C, so that what was opened is closed and what was taken is given back. */
export function interruption(): AbortSignal {
  const controller = new AbortController()
  process.once('SIGINT', () => controller.abort(new SnapflipError('CANCELLED', 'Interrupted; nothing was changed.')))
  return controller.signal
}
