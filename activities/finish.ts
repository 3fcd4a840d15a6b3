import { createHash } from 'node:crypto'
import type { RefreshOutcome, RefreshStatus } from '../schemas/refresh.ts'
import { isAgainst } from '../src/core/judgement.ts'
import { approvalOf } from '../src/registry/approvals.ts'
import { closeRefresh } from '../src/registry/close-refresh.ts'
import { confirmedFlips } from '../src/registry/flips.ts'
import { gateResults, type KeptGateResult } from '../src/registry/gate-results.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

export interface FinishRequest {
  refreshId: string
  dataset: string
  status: RefreshStatus
  tag: string | null
  summary: string
  durationsMs: Record<string, number>
}

/** Closes the refresh, whatever became of it, and frees the dataset for the next. */
export const finish =
  (deps: Deps) =>
  (end: FinishRequest): Promise<RefreshOutcome> =>
    asActivity(async () => {
      const { refreshId, dataset, status, tag, summary, durationsMs } = end
      await closeRefresh(deps.pool, { refreshId, status, tag, summary, durationsMs })
      const gates = tag === null ? [] : await gateResults(deps.pool, dataset, tag)
      if (tag !== null && (status === 'REJECTED' || status === 'HELD'))
        await tellRefused(deps, { refreshId, dataset, tag, summary }, gates)
      const durationMs = Object.values(durationsMs).reduce((sum, ms) => sum + ms, 0)
      deps.log.info({ dataset, version: tag, step: 'finish', outcome: status, durationMs }, summary)
      return {
        status,
        refreshId,
        tag,
        active: await activeTag(deps, dataset),
        summary,
        gates: gates.map(({ at: _at, refreshId: _refreshId, ...result }) => result),
        durationsMs,
      }
    })

/**
 * Nobody may be looking at night; whoever asked at the prompt has a colleague. One incident until readers are moved, however many versions the same
 * gates refuse of a source that goes on changing. A person's no, or none in time, is about this version alone.
 */
async function tellRefused(
  deps: Deps,
  { refreshId, dataset, tag, summary }: Pick<FinishRequest, 'refreshId' | 'dataset' | 'summary'> & { tag: string },
  gates: readonly KeptGateResult[],
): Promise<void> {
  const against = gates
    .filter(isAgainst)
    .map(({ gate, index, verdict, actual, limit }) => ({ gate, index, verdict, actual, limit }))
  const [moved] = await confirmedFlips(deps.pool, dataset, 1)
  const cause = against.map(({ gate, index, verdict }) => JSON.stringify([gate, index, verdict])).toSorted()
  const sameGates = `by ${createHash('sha256').update(cause.join()).digest('hex').slice(0, 16)}`
  const answer = (await approvalOf(deps.pool, refreshId))?.decision ?? null
  const isAnswer = answer === 'rejected' || answer === 'expired'
  await deps.alert({
    kind: 'GATE_REFUSED',
    dataset,
    version: tag,
    incident: `since ${moved?.flipId ?? 'the beginning'}, ${isAnswer ? `${answer} ${tag}` : sameGates}`,
    summary,
    evidence: { gates: against },
  })
}

/** For people: a store that does not answer now must not keep a refresh from ending. */
async function activeTag(deps: Deps, dataset: string): Promise<string | null> {
  try {
    return (await (await deps.store(dataset)).pointer.read())?.pointer.active?.tag ?? null
  } catch (error) {
    deps.log.warn({ err: error, dataset }, 'the pointer could not be read at the end of the refresh')
    return null
  }
}
