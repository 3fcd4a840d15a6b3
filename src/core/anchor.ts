import { type Anchor, CONTRADICTED_MAX, type Contradicted, type Pointer } from '../../schemas/pointer.ts'
import { already, applied, type ChangeOutcome, refused } from './pointer-change.ts'

/** Anchors only go forward: what a flip of an older history carries replaces none of a longer one. */
export function laterAnchor(a: Anchor | null, b: Anchor | null): Anchor | null {
  if (a === null || b === null) return a ?? b
  return b.seq > a.seq ? b : a
}

/** The oldest are kept: what was found first proves all that came before it. Where there are too many, accepted ones make room. */
export function withContradicted(kept: readonly Contradicted[], found: readonly Contradicted[]): Contradicted[] {
  const news = found.filter((anchor) => !kept.some((one) => isSame(one, anchor)))
  const all = kept.map((one) => {
    const acceptedBy = laterAnchor(
      one.acceptedBy ?? null,
      found.find((anchor) => isSame(one, anchor))?.acceptedBy ?? null,
    )
    return acceptedBy === null ? one : { ...one, acceptedBy }
  })
  let tooMany = all.length + news.length - CONTRADICTED_MAX
  return [...all, ...news]
    .filter(({ acceptedBy }) => acceptedBy === undefined || tooMany-- <= 0)
    .slice(0, CONTRADICTED_MAX)
}

/** All that a pointer proves of the history: what it was found not to lead to, and what the last flip left of it. */
export function anchorsIn({ contradicted, anchor }: Pick<Pointer, 'contradicted' | 'anchor'>): Contradicted[] {
  return anchor === null || contradicted.some((one) => isSame(one, anchor)) ? contradicted : [...contradicted, anchor]
}

/** A person's entry takes the place of what an anchor proves: of exactly this one, and whatever it is that the history leads to then. */
export function acceptAnchor(
  now: Pointer,
  { anchor: { seq, hash }, entry }: { anchor: Anchor; entry: Anchor },
): ChangeOutcome {
  const anchor = { seq, hash }
  const known = anchorsIn(now).find((one) => isSame(one, anchor))
  if (known === undefined) {
    return refused(
      'CONFLICT',
      `Expected ${seq}:${hash} among the anchors in the pointer of ${now.dataset}, found ${anchorsIn(now).map(anchorText).join(', ') || 'none'}.`,
      { dataset: now.dataset, seq, hash },
    )
  }
  if (known.acceptedBy !== undefined && isSame(known.acceptedBy, entry)) return already(now)
  const others = now.contradicted.filter((one) => !isSame(one, anchor))
  return applied({
    ...now,
    anchor: now.anchor !== null && isSame(now.anchor, anchor) ? entry : now.anchor,
    contradicted: withContradicted(others, [{ ...anchor, acceptedBy: entry }]),
  })
}

function isSame(a: Anchor, b: Anchor): boolean {
  return a.seq === b.seq && a.hash === b.hash
}

/** As the command line takes and prints it. */
export function anchorText({ seq, hash }: Anchor): string {
  return `${seq}:${hash}`
}
