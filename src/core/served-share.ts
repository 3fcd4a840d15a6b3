/** A part of the readers, and what they read. */
export interface Share {
  tag: string
  /** Of all readers: 0 to 1. */
  share: number
  why: 'active' | 'candidate' | 'pinned'
}

/**
 * Which share of the readers a pointer sends where: an operator's pin keeps all of them, whatever is active beneath; else a canary takes its
 * share. A reader that pins by itself, or has not followed yet, is within what it was sent to before.
 */
export function sharesOf(pointer: {
  active: string | null
  canary: { tag: string; share: number | null } | null
  pin: { tag: string } | null
}): Share[] {
  const { active, canary, pin } = pointer
  if (pin !== null) return [{ tag: pin.tag, share: 1, why: 'pinned' }]
  if (active === null) return []
  const share = canary?.share ?? 0
  const rest: Share = { tag: active, share: 1 - share, why: 'active' }
  return canary === null || share === 0 ? [rest] : [rest, { tag: canary.tag, share, why: 'candidate' }]
}
