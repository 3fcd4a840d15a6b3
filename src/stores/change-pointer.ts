import { setTimeout as sleep } from 'node:timers/promises'
import type { Pointer } from '../../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { applyChange, type PointerChange } from '../core/pointer.ts'
import type { PointerStore } from './ports.ts'

/** Concurrent changes are a handful (a flip, a hold, a few retires); each lost race means that another one was made. */
const ATTEMPTS = 24
/** Unknown outcomes mean that the store is in trouble: fewer tries, further apart, and the caller's retry policy after that. */
const UNKNOWN_MAX = 3
const BACKOFF_FIRST_MS = 20
const BACKOFF_MAX_MS = 500

/**
 * Makes one change of the pointer: read, decide, compare-and-set. When another write came first, it is decided anew. When the
 * outcome is unknown (lost reply, time-out), it is read and decided anew: a change that was made is found `already` there, by
 * its flip id or by the state it asked for.
 *
 * Throws what the change was refused with, and STORE_UNREACHABLE when the outcome stays unknown: read before doing anything else.
 */
export async function changePointer(
  store: PointerStore,
  change: PointerChange,
  options: { dataset: string; attempts?: number },
): Promise<{ outcome: 'applied' | 'already'; pointer: Pointer }> {
  const attempts = options.attempts ?? ATTEMPTS
  let unknowns = 0
  for (let attempt = 1; attempt <= attempts; attempt++) {
    try {
      const read = await store.read()
      const decision = applyChange(read?.pointer ?? null, change, options.dataset)
      if (decision.outcome === 'refused') throw new SnapflipError(decision.code, decision.message, decision.details)
      if (decision.outcome === 'already') return decision
      if (await store.swap(read?.token ?? null, decision.pointer)) return decision
    } catch (error) {
      if (isSnapflipError(error) && error.code !== 'STORE_UNREACHABLE') throw error
      if (++unknowns >= UNKNOWN_MAX || attempt === attempts) throw error
    }
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10))
    await sleep(Math.random() * ceiling)
  }
  throw new SnapflipError(
    'CONFLICT',
    `Pointer of ${options.dataset} was changed by others ${attempts} times in a row, expected to get a turn. Try again.`,
    { dataset: options.dataset, attempts, change: change.kind },
  )
}
