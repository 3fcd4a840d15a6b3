import type { Pin, Pointer, Ttl, VersionRef } from '../../schemas/pointer.ts'

/** How long after a flip a reader that declares nothing else may still answer from the version before. */
export const FOLLOW_LAG_MS = 1000

/** The operator's pin that readers obey at this time (ms since 1970, by their own clock); null when there is none, or it is over. */
export function pinInForce({ pin }: Pick<Pointer, 'pin'>, now: number): Pin | null {
  return pin !== null && now < Date.parse(pin.until) ? pin : null
}

/** What a pointer has readers answer from, but for those on a canary's side; null when there is nothing yet. */
export function readersOn(pointer: Pick<Pointer, 'active' | 'pin'>, now: number): VersionRef | null {
  return pinInForce(pointer, now)?.version ?? pointer.active
}

/** Where an operator's pin keeps readers from this version, as people are told; null where none does. */
export function keptElsewhere(pointer: Pick<Pointer, 'pin'>, tag: string | null, now: number): string | null {
  const pin = pinInForce(pointer, now)
  if (pin === null || pin.version.tag === tag) return null
  return `readers stay on ${pin.version.tag}, where ${pin.by} pinned them until ${pin.until}`
}

/** Up to when a version is known to be current (ms since 1970): its watermark, or later, where it is active and was found still so. */
export function currentUpTo({ active, freshAsOf }: Pick<Pointer, 'active' | 'freshAsOf'>, version: Known): number {
  const watermarkAt = Date.parse(version.watermark.at)
  return active?.tag === version.tag && freshAsOf !== null
    ? Math.max(watermarkAt, Date.parse(freshAsOf.at))
    : watermarkAt
}

interface Known {
  tag: string
  watermark: { at: string }
}

/** Whether that is longer ago than the dataset's budget allows. */
export function isExpired(ttl: Ttl | null, currentUpToMs: number, now: number): boolean {
  return ttl !== null && now - currentUpToMs > ttl.budgetMs
}
