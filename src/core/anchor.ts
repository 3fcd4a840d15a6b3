import type { Anchor } from '../../schemas/pointer.ts'

/** Anchors only go forward: what a flip of an older history carries replaces none of a longer one. */
export function laterAnchor(a: Anchor | null, b: Anchor | null): Anchor | null {
  if (a === null || b === null) return a ?? b
  return b.seq > a.seq ? b : a
}
