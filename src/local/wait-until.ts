import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Polls `condition` until it returns a value other than undefined.
 * A condition that throws counts as "not yet"; its last error becomes the cause when the time is over.
 *
 * @throws Error naming `what` and the limit.
 */
export async function waitUntil<T>(
  what: string,
  condition: () => Promise<T | undefined> | T | undefined,
  { timeoutMs = 30_000, intervalMs = 50 }: { timeoutMs?: number; intervalMs?: number } = {},
): Promise<T> {
  const deadline = Date.now() + timeoutMs
  let lastError: unknown
  do {
    try {
      const value = await condition()
      if (value !== undefined) return value
    } catch (error) {
      if (error instanceof GaveUp) throw error
      lastError = error
    }
    await sleep(intervalMs)
  } while (Date.now() < deadline)
  throw new Error(`Waited ${timeoutMs} ms for ${what}; it did not happen.`, { cause: lastError })
}

/** Thrown by a condition that can no longer come true: `waitUntil` stops at once and passes it on. */
export class GaveUp extends Error {}
