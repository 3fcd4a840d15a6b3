import type pg from 'pg'
import type { GateResult } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { type CanaryRow, canaryOf } from './canaries.ts'
import { lockDataset } from './dataset-lock.ts'
import { finishCanary } from './end-canary.ts'
import { record } from './record.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Keeps what the canary found beside the other gates' evidence, and what it makes of the version: refused it is held or rejected, let pass it
 * stays the candidate until the flip. The first verdict stands.
 *
 * @throws SnapflipError SUPERSEDED when the refresh is closed, CONFLICT when the canary ended otherwise.
 */
export async function judgeCanary(
  db: Db,
  { canaryId, result }: { canaryId: string; result: GateResult },
): Promise<void> {
  await transaction(db, async (client) => {
    const { dataset } = await intended(client, canaryId)
    await lockDataset(client, dataset)
    const canary = await intended(client, canaryId)
    if (canary.verdict !== null) return
    if (canary.outcome !== null) throw ended(canary)
    const { tag, refreshId } = canary
    await requireOpenRefresh(client, dataset, refreshId)
    await client.query(KEEP, [refreshId, dataset, tag, JSON.stringify(result)])
    const { verdict, summary, actual, limit } = result
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
      detail: { canaryId, refreshId, verdict, summary, actual, limit },
    })
  })
}

/** After the results that are there. */
const KEEP = `
  insert into snapflip.gate_results
    (refresh_id, dataset, tag, position, gate, index, verdict, summary, actual, limit_, sample_keys)
  select $1, $2, $3, (select coalesce(max(position), 0) + 1 from snapflip.gate_results where dataset = $2 and tag = $3),
         result ->> 'gate', result ->> 'index', result ->> 'verdict', result ->> 'summary', result -> 'actual',
         result -> 'limit', array(select jsonb_array_elements_text(result -> 'sampleKeys'))
    from (select $4::jsonb as result) as given`

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
