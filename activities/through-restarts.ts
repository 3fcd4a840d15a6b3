import { isSnapflipError } from '../src/core/errors.ts'

/** Restarts of a Redis that one piece of work lives through: with more, something else is wrong. */
const RESTARTS_MAX = 2

/**
 * Does work that sets a pointer, whatever restarts in between: a Redis that is not the one the pointer was bound to takes no write
 * (STORE_REBOUND) until somebody has looked what it lost. Then `repair` looks, and the work is done anew, from what it finds there.
 */
export async function throughRestarts<T>(work: () => Promise<T>, repair: () => Promise<unknown>): Promise<T> {
  for (let restarts = 0; ; restarts++) {
    try {
      return await work()
    } catch (error) {
      if (!isSnapflipError(error, 'STORE_REBOUND') || restarts === RESTARTS_MAX) throw error
    }
    await repair()
  }
}
