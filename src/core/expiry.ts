import type { Pointer } from '../../schemas/pointer.ts'

/** By how much the active version is older than the budget it was flipped with; null: it is not, or has none. */
export function expiredByMs({ active, freshAsOf, ttl }: Pointer, now: Date): number | null {
  if (active === null || freshAsOf === null || ttl === null) return null
  const byMs = now.getTime() - Date.parse(freshAsOf.at) - ttl.budgetMs
  return byMs > 0 ? byMs : null
}
