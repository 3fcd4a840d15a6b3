import type { VersionRef } from '../schemas/pointer.ts'
import type { DrillRow } from '../src/registry/drills.ts'
import { notAsExpected } from './not-as-expected.ts'

/**
 * Back is to what came before. Forward goes `flip`, which is for another role, and looks at the version first; out of a drill, that drill.
 *
 * @param drill the open one, if there is one.
 * @throws SnapflipError CONFLICT
 */
export function requireEarlier(
  dataset: string,
  active: VersionRef,
  { tag, ordinal }: Pick<VersionRef, 'tag' | 'ordinal'>,
  drill: DrillRow | null,
): void {
  if (ordinal <= active.ordinal) return
  const expected = `a version of ${dataset} that is older than ${active.tag}, which readers are on, to go back to`
  const todo =
    drill?.to === active.tag
      ? `Readers are on ${active.tag} for a drill by ${drill.by}, which brings them back to ${drill.from} by itself while Temporal and a worker run: bring up ` +
        `what is down (\`snapflip doctor\`); where its workflow is gone, \`snapflip drill ${dataset} --end\` does it.`
      : `Forward goes \`snapflip flip ${dataset} ${tag} --reason …\`.`
  throw notAsExpected(expected, `${tag}, which is newer`, todo, { dataset, active: active.tag, tag })
}
