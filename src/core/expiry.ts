import type { Pointer } from '../../schemas/pointer.ts'
import { isExpired } from './readers-on.ts'

/** By how much the active version is older than the budget it was flipped with; null: it is not, or has none. */
export function expiredByMs({ active, freshAsOf, ttl }: Pointer, now: Date): number | null {
  if (active === null || freshAsOf === null || ttl === null) return null
  const currentUpToMs = Date.parse(freshAsOf.at)
  return isExpired(ttl, currentUpToMs, now.getTime()) ? now.getTime() - currentUpToMs - ttl.budgetMs : null
}
