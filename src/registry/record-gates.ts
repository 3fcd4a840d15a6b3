import type { GateResult, Verdict } from '../../schemas/refresh.ts'
import { verdictSchema } from '../../schemas/refresh.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { refreshOf } from './refresh-of.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { type Db, transaction } from './transaction.ts'

/**
 * Keeps what the gates found, pass or fail. A later run of the gates over the same version replaces it; the history keeps the
 * verdicts of both.
 */
export async function recordGates(
  db: Db,
  refreshId: string,
  tag: string,
  results: readonly GateResult[],
): Promise<void> {
  await transaction(db, async (client) => {
    const dataset = await refreshOf(client, refreshId)
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    await client.query('delete from snapflip.gate_results where dataset = $1 and tag = $2', [dataset, tag])
    await client.query(INSERT, [refreshId, dataset, tag, JSON.stringify(results)])
    await record(client, {
      dataset,
      actor: null,
      kind: 'gates.judged',
      version: tag,
      detail: {
        refreshId,
        verdict: heaviest(results),
        results: results.map(({ gate, index, verdict, summary }) => ({ gate, index, verdict, summary })),
      },
    })
  })
}

const INSERT = `
  insert into snapflip.gate_results
    (refresh_id, dataset, tag, position, gate, index, verdict, summary, actual, limit_, sample_keys)
  select $1, $2, $3, position, result ->> 'gate', result ->> 'index', result ->> 'verdict', result ->> 'summary',
         result -> 'actual', result -> 'limit', array(select jsonb_array_elements_text(result -> 'sampleKeys'))
    from jsonb_array_elements($4::jsonb) with ordinality as given (result, position)`

/** Verdicts stand in the schema in order of weight. */
function heaviest(results: readonly GateResult[]): Verdict {
  const order = verdictSchema.options
  return order[Math.max(0, ...results.map((result) => order.indexOf(result.verdict)))] ?? 'pass'
}
