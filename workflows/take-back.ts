import { executeChild, sleep } from '@temporalio/workflow'
import { WORKFLOW_ID } from '../schemas/refresh.ts'
import { failureMessage } from '../src/core/failure.ts'
import { patient, quick } from './activities.ts'
import { isRunning } from './is-running.ts'
import { rollback } from './rollback.ts'

/** How readers came to leave a version that is bad, or why they could not. */
export interface TakenBack {
  status: 'ROLLED_BACK' | 'FAILED'
  summary: string
}

/** A version that is bad, and the flip that made it active. */
export interface BadVersion {
  dataset: string
  tag: string
  flipId: string
  /** What is wrong with it. */
  summary: string
  /** Whose work is undone: `refresh 0198…`. */
  of: string
}

/** Several times what one takes to move readers. */
const OTHER_ROLLBACK_MS = 5_000

/**
 * The compensation of a flip: from this version alone, so that one that a person has gone back to meanwhile is not left. Where it cannot be taken
 * back, readers stay on it, and nothing is built upon it until a person has looked.
 */
export async function takeBack(bad: BadVersion): Promise<TakenBack> {
  const { dataset, tag, summary } = bad
  const rollBack = (workflowId: string) =>
    executeChild(rollback, {
      workflowId,
      // Goes on without this workflow.
      parentClosePolicy: 'ABANDON',
      args: [{ dataset, reason: summary, from: tag }],
    })
  const failure = await failureOf(() =>
    rollBack(WORKFLOW_ID.rollback(dataset)).catch(async (error: unknown) => {
      if (!isRunning(error)) throw error
      // About to move readers itself: after another it would take them back twice. Or it reads its version whole still, which may take hours.
      await sleep(OTHER_ROLLBACK_MS)
      if ((await readersOn(bad)) !== tag) throw error
      return rollBack(WORKFLOW_ID.rollbackBeside(dataset, bad.flipId))
    }),
  )
  if (failure === null) return { status: 'ROLLED_BACK', summary }
  // A rollback that failed may have moved the pointer all the same, or a person's came first: where readers are is read.
  const now = await readersOn(bad)
  if (now !== tag) {
    return {
      status: 'ROLLED_BACK',
      summary: `${summary}; readers are on ${now ?? 'no version'}, though: ${failureMessage(failure)}`,
    }
  }
  await tellFailed(bad, failure)
  // Readers stay on it (a first version has nothing before it).
  const at = new Date().toISOString()
  await reported(bad, () => patient.hold({ dataset, by: 'snapflip', reason: summary, at }))
  return {
    status: 'FAILED',
    summary: `${summary}; it could not be taken back, so readers stay on it and ${dataset} is on hold. \`snapflip resume ${dataset}\`, then \`snapflip refresh ${dataset} --full\`.`,
  }
}

/** Still on this version, unless the pointer says otherwise. */
async function readersOn(bad: BadVersion): Promise<string | null> {
  const { dataset, flipId } = bad
  let active: string | null = bad.tag
  await reported(bad, async () => {
    active = (await patient.settle({ dataset, flipId, whereReadersAre: true })).active
  })
  return active
}

/** A compensation that fails is told and recorded; how the work ended stands. */
export async function reported(
  undone: Pick<BadVersion, 'dataset' | 'of'>,
  compensation: () => Promise<unknown>,
): Promise<void> {
  const failure = await failureOf(compensation)
  if (failure !== null) await tellFailed(undone, failure)
}

export async function tellFailed({ dataset, of }: Pick<BadVersion, 'dataset' | 'of'>, failure: unknown): Promise<void> {
  const summary = `what follows or undoes the work of ${of} failed: ${failureMessage(failure)}`
  await quick.compensationFailed({ dataset, summary })
}

/** Null: it worked. */
export async function failureOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work()
    return null
  } catch (error) {
    return error
  }
}
