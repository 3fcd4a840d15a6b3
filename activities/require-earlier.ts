import type { VersionRef } from '../schemas/pointer.ts'
import { notAsExpected } from './not-as-expected.ts'

/**
 * Back is to what came before. Forward goes `flip`, which is for another role, and looks at the version first.
 *
 * @throws SnapflipError CONFLICT
 */
export function requireEarlier(
  dataset: string,
  active: VersionRef,
  { tag, ordinal }: Pick<VersionRef, 'tag' | 'ordinal'>,
): void {
  if (ordinal <= active.ordinal) return
  const expected = `a version of ${dataset} that is older than ${active.tag}, which readers are on, to go back to`
  const todo = `Forward goes \`snapflip flip ${dataset} ${tag} --reason …\`.`
  throw notAsExpected(expected, `${tag}, which is newer`, todo, { dataset, active: active.tag, tag })
}
