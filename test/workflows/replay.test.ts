import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { Worker } from '@temporalio/worker'
import { DeterminismViolationError } from '@temporalio/workflow'
import { expect, it } from 'vitest'
import { workflowBundle } from '../support/services.ts'
import { quiet } from '../support/world.ts'
import { RECORDED, type Recorded } from './recorded.ts'

/**
 * Histories of real runs, replayed against the workflows as they are. A change of the order of steps fails here: guard it with `patched()`,
 * so that refreshes that are under way while a worker is replaced go on. To record them again (before the first release, or a new one):
 * `scripts/record-histories`.
 */

/** Temporal's own reading of JSON fails where two protobufjs are installed ("type must be a Type"): its message type is asked for itself. */
const { temporal } = createRequire(import.meta.resolve('@temporalio/worker'))('@temporalio/proto') as {
  temporal: { api: { history: { v1: { History: { fromObject(plain: object): unknown } } } } }
}
const recorded = async (name: Recorded): Promise<unknown> =>
  temporal.api.history.v1.History.fromObject(
    JSON.parse(await readFile(new URL(`./histories/${name}.json`, import.meta.url), 'utf8')),
  )

quiet()

it.each(RECORDED)('the recorded %s replays', async (name) => {
  await Worker.runReplayHistory({ workflowBundle: { codePath: await workflowBundle() } }, await recorded(name))
})

it.each([
  { name: 'success', steps: ['long.verify(', 'long.retire('] },
  { name: 'refusal', steps: ['heavy)().build(', 'heavy)().gates('] },
  { name: 'compensation', steps: ['patient.settle(', 'long.verify('] },
  { name: 'compensation-rollback', steps: ['quick.flipBack(', 'long.verifyRollback('] },
  { name: 'cancellation', steps: ['quick.finish(', 'long.discard('] },
  { name: 'scheduled-run', steps: ['quick.afterFailure(', 'quick.skipped('] },
  { name: 'continuous', steps: ['watching)().somethingNew(', 'heavy)().gates('] },
] as const)('the recorded $name does not replay with steps in another order', async ({ name, steps: [one, other] }) => {
  const code = await readFile(await workflowBundle(), 'utf8')
  // Two steps take each other's place: what `patched()` would have to guard.
  const reordered = code.replaceAll(one, '\0').replaceAll(other, one).replaceAll('\0', other)
  expect(reordered).not.toBe(code)
  await expect(Worker.runReplayHistory({ workflowBundle: { code: reordered } }, await recorded(name))).rejects.toThrow(
    DeterminismViolationError,
  )
})
