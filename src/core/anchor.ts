import { type Anchor, CONTRADICTED_MAX } from '../../schemas/pointer.ts'

/** Anchors only go forward: what a flip of an older history carries replaces none of a longer one. */
export function laterAnchor(a: Anchor | null, b: Anchor | null): Anchor | null {
  if (a === null || b === null) return a ?? b
  return b.seq > a.seq ? b : a
}

/** The oldest are kept: what was found first proves all that came before it. */
export function withContradicted(kept: readonly Anchor[], found: readonly Anchor[]): Anchor[] {
  const news = found.filter(({ seq, hash }) => !kept.some((one) => one.seq === seq && one.hash === hash))
  return [...kept, ...news].slice(0, CONTRADICTED_MAX)
}
