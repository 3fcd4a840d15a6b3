import { CancellationScope, isCancellation, uuid4, workflowInfo } from '@temporalio/workflow'
import type { DrillBegun, DrillMove } from '../activities/drill.ts'
import type { DrillOutcome, DrillRequest } from '../schemas/refresh.ts'
import { failureMessage } from '../src/core/failure.ts'
import { first, long, patient } from './activities.ts'
import { failed } from './failed.ts'
import { Steps } from './steps.ts'
import { failureOf, tellFailed } from './take-back.ts'

/**
 * Rehearses a rollback: takes readers to the version that one would go to, waits until they are there, and brings them back. No hold, no quarantine,
 * nothing built. Whatever fails on the way, or cancels it, readers are brought back; where that fails too, a person is told. Such a drill, and one
 * whose workflow was terminated, is ended by another one that is asked only for that.
 */
export async function drill(request: DrillRequest): Promise<DrillOutcome> {
  const drillId = uuid4()
  const backId = uuid4()
  const steps = new Steps(drillId)
  const { workflowId, runId } = workflowInfo()
  const begun = await steps
    .take('plan', `looking at ${request?.dataset}`, () => first.beginDrill({ drillId, request, workflowId, runId }))
    .catch((error: unknown) => {
      throw isCancellation(error) ? error : failed(error)
    })
  steps.searchable = begun.searchable
  steps.tell({ snapflipDataset: begun.dataset, snapflipVersion: begun.to.tag })
  const times: Record<string, number> = {}
  let failure: unknown = null

  if (request.end !== true) {
    try {
      await steps.take('flip', `taking readers to ${begun.to.tag}`, () => away(begun))
    } catch (error) {
      failure = error
    }
  }
  return await CancellationScope.nonCancellable(() =>
    steps.take('compensate', `bringing readers back to ${begun.from.tag}`, async () => {
      const outcome = await bringBack(begun).catch(async (error: unknown) => {
        throw await leftOpen(begun, error)
      })
      if (failure === null || outcome.status !== 'FAILED') return outcome
      throw isCancellation(failure) ? failure : failed(failure, outcome.summary)
    }),
  )

  async function away({ dataset, to }: DrillBegun): Promise<void> {
    // Once asked for, it is seen through to a known outcome.
    const { toPointerMs, at } = await CancellationScope.nonCancellable(() => patient.drillAway(begun))
    times.away = toPointerMs
    const readers = await long.awaitAdoption({ dataset, flipId: begun.drillId, former: begun.formerFlipId, at })
    if (readers.toLastReaderMs !== null) times.awayToLastReader = toPointerMs + readers.toLastReaderMs
    steps.progress = {
      ...steps.progress,
      tag: to.tag,
      summary: `${readers.readers} of ${readers.of} readers are on ${to.tag}`,
    }
    times.readers = readers.readers
  }

  async function bringBack({ dataset, from, to }: DrillBegun): Promise<DrillOutcome> {
    // Read before it is undone: a flip whose reply was lost may have been made; one that was not shall never be.
    const { flipped } = await patient.settle({ dataset, flipId: begun.drillId })
    const isNoOp = from.tag === to.tag
    const back = flipped && !isNoOp ? await patient.drillBack({ ...begun, flipId: backId }) : null
    if (back !== null) {
      times.back = back.toPointerMs
      // Readers are back: what cannot be counted keeps no drill open.
      failure ??= await failureOf(() => countBack(dataset, back))
    }
    const isOvertaken = flipped && !isNoOp && back === null
    const outcome = isOvertaken ? 'OVERTAKEN' : failure === null ? 'DONE' : 'FAILED'
    const told = isOvertaken
      ? `readers were taken elsewhere while the drill of ${dataset} was under way; they stay there`
      : failure !== null
        ? `the drill of ${dataset} failed: ${failureMessage(failure)}`
        : request.end === true
          ? `the drill of ${dataset} is ended`
          : isNoOp
            ? `${dataset} was flipped to ${to.tag} again, which was active`
            : `${dataset} went from ${from.tag} to ${to.tag} and back`
    const { active, pinned } = await patient.endDrill({
      dataset,
      drillId: begun.drillId,
      outcome,
      times,
      summary: told,
    })
    const summary = `${told}; ${pinned ?? `readers are on ${active ?? 'no version'}`}`
    steps.progress = { ...steps.progress, step: 'done', summary }
    return { status: outcome, dataset, from: from.tag, to: to.tag, active, timesMs: times, summary }
  }

  async function countBack(dataset: string, { toPointerMs, at }: DrillMove): Promise<void> {
    const former = begun.drillId
    const readers = await long.awaitAdoption({ dataset, flipId: backId, former, at })
    if (readers.toLastReaderMs !== null) times.backToLastReader = toPointerMs + readers.toLastReaderMs
  }

  /** Readers may be on the older version, and no refresh opens: a person has to end it. */
  async function leftOpen({ dataset, drillId, from }: DrillBegun, error: unknown): Promise<unknown> {
    const failure = failed(
      error,
      `the drill of ${dataset} could not be ended: ${failureMessage(error)} Until \`snapflip drill ${dataset} --end\` brings readers back to ${from.tag}, no refresh opens.`,
    )
    await failureOf(() => tellFailed({ dataset, of: `drill ${drillId}` }, failure))
    return failure
  }
}
