import { WORKFLOW_ID } from '../schemas/refresh.ts'
import type { FlipRow } from '../src/registry/flips.ts'

/** Flips among which that of a version which is left is found: a drill of it is two. */
export const RECENT_MAX = 8

/**
 * Ids of the workflows, besides a refresh, of which one may be making these flips: a rollback beside another is called by the flip that it takes back, or by
 * the version that a person named.
 *
 * @param recent confirmed flips, the `RECENT_MAX` newest.
 */
export function moversOf(
  dataset: string,
  flips: readonly Pick<FlipRow, 'from' | 'to'>[],
  recent: readonly FlipRow[],
): string[] {
  const left = recent.filter(({ to }) => flips.some(({ from }) => from === to))
  const beside = [...left.map(({ flipId }) => flipId), ...flips.map(({ to }) => to)]
  return [
    WORKFLOW_ID.rollback(dataset),
    ...beside.map((about) => WORKFLOW_ID.rollbackBeside(dataset, about)),
    WORKFLOW_ID.flipTo(dataset),
    WORKFLOW_ID.drill(dataset),
  ]
}
