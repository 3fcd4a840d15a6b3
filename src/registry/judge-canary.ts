import type pg from 'pg'
import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { judgementOf } from '../core/judgement.ts'
import { type CanaryRow, canaryOf } from './canaries.ts'
import { lockDataset } from './dataset-lock.ts'
import { finishCanary } from './end-canary.ts'
import { gateResults, type KeptGateResult } from './gate-results.ts'
import { record } from './record.ts'
import { keepResults } from './record-gates.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Keeps what the canary found beside the other gates' evidence, and what it makes of the version: refused it is held or rejected, let pass it
 * stays the candidate until the flip. The first verdict stands; one that was waived is a warning.
 *
 * @returns the verdict that stands.
 * @throws SnapflipError SUPERSEDED when the refresh is closed, CONFLICT when the canary ended otherwise.
 */
export async function judgeCanary(
  db: Db,
  { canaryId, result }: { canaryId: string; result: GateResult },
): Promise<Verdict> {
  return transaction(db, async (client) => {
    const { dataset } = await intended(client, canaryId)
    await lockDataset(client, dataset)
    const canary = await intended(client, canaryId)
    if (canary.verdict !== null) return canary.verdict
    if (canary.outcome !== null) throw ended(canary)
    const { tag, refreshId } = canary
    await requireOpenRefresh(client, dataset, refreshId)
    await keepResults(client, { refreshId, dataset, tag }, [result])
    const { summary, actual, limit, waived } = (await gateResults(client, dataset, tag)).at(-1) as KeptGateResult
    const { verdict } = judgementOf([{ ...result, waived }])
    await client.query('update snapflip.canaries set verdict = $2 where id = $1', [canaryId, verdict])
    const isRefused = verdict === 'hold' || verdict === 'reject'
    if (isRefused) {
      await changeState(client, { dataset, tag, to: verdict === 'hold' ? 'held' : 'rejected' })
      await finishCanary(client, canaryId, 'refused')
    }
    const kind = isRefused ? 'canary.refused' : 'canary.passed'
    await record(client, {
      dataset,
      actor: null,
      kind,
      version: tag,
      detail: { canaryId, refreshId, verdict, summary, actual, limit, ...(waived === null ? {} : { waived }) },
    })
    return verdict
  })
}

async function intended(client: pg.ClientBase, canaryId: string): Promise<CanaryRow> {
  const canary = await canaryOf(client, canaryId)
  if (canary === null) throw new Error(`canary ${canaryId} was never intended`)
  return canary
}

function ended({ dataset, canaryId, tag, outcome }: CanaryRow): SnapflipError {
  return new SnapflipError(
    'CONFLICT',
    `Expected canary ${canaryId} of ${tag} of ${dataset} to run, found it ${outcome}. See \`snapflip history ${dataset}\`.`,
    { dataset, canaryId, tag, outcome },
  )
}
