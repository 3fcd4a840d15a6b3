import type pg from 'pg'
import type { GateResult } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { judgementOf } from '../core/judgement.ts'
import { lockDataset } from './dataset-lock.ts'
import { gateResults } from './gate-results.ts'
import { record } from './record.ts'
import { refreshOf } from './refresh-of.ts'
import { requireNoOpenFlip } from './require-no-open-flip.ts'
import { requireOpenRefresh } from './require-open-refresh.ts'
import { changeState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

export interface Judged {
  refreshId: string
  tag: string
  /** The manifest that the gates read. */
  manifestSha256: string
}

/**
 * Keeps what the gates found, pass or fail, and what it makes of the version, in one transaction: a verdict against it stands, whatever another
 * run of the same refresh's gates draws afterwards. Results that let it pass give way to a later run's, and all of them to those of another refresh,
 * which has taken the version up and found it as it is now.
 *
 * @returns the results that stand.
 * @throws SnapflipError SUPERSEDED when the refresh is closed or the version was sealed anew meanwhile.
 */
export async function recordGates(
  db: Db,
  judged: Judged,
  results: readonly GateResult[],
): Promise<readonly GateResult[]> {
  return transaction(db, async (client) => {
    const { refreshId, tag } = judged
    const dataset = await refreshOf(client, refreshId)
    await lockDataset(client, dataset)
    await requireOpenRefresh(client, dataset, refreshId)
    await requireSealedWith(client, dataset, judged)
    const before = (await gateResults(client, dataset, tag)).filter((result) => result.refreshId === refreshId)
    if (stateAfter(before) !== null) return before
    await client.query('delete from snapflip.gate_verdicts where dataset = $1 and tag = $2', [dataset, tag])
    await keepResults(client, { refreshId, dataset, tag }, results)
    const kept = await gateResults(client, dataset, tag)
    const { verdict, why } = judgementOf(kept)
    await record(client, {
      dataset,
      actor: null,
      kind: 'gates.judged',
      version: tag,
      detail: {
        refreshId,
        verdict,
        results: kept.map(({ gate, index, verdict, summary, waived }) => ({
          gate,
          index,
          verdict,
          summary,
          ...(waived === null ? {} : { waived }),
        })),
      },
    })
    const to = stateAfter(kept)
    if (to !== null) {
      await requireNoOpenFlip(client, dataset, tag)
      const from = await changeState(client, { dataset, tag, to })
      await record(client, { dataset, actor: null, kind: `version.${to}`, version: tag, detail: { from, why } })
    }
    return kept
  })
}

/** Null: they do not speak against it. */
function stateAfter(results: readonly GateResult[]): 'held' | 'rejected' | null {
  const { verdict } = judgementOf(results)
  return verdict === 'hold' ? 'held' : verdict === 'reject' ? 'rejected' : null
}

/** After those that are there, each with the waiver that lets it pass, in a transaction that holds the lock of the dataset's row. */
export async function keepResults(
  client: pg.ClientBase,
  { refreshId, dataset, tag }: { refreshId: string; dataset: string; tag: string },
  results: readonly GateResult[],
): Promise<void> {
  await client.query(INSERT, [refreshId, dataset, tag, JSON.stringify(results)])
}

/** A waiver is for what the version holds: whichever tag it has. */
const INSERT = `
  insert into snapflip.gate_verdicts
    (refresh_id, dataset, tag, position, gate, index, verdict, summary, actual, limit_, sample_keys, waiver)
  select $1, $2, $3,
         position + (select coalesce(max(position), 0) from snapflip.gate_verdicts where dataset = $2 and tag = $3),
         result ->> 'gate', result ->> 'index', result ->> 'verdict', result ->> 'summary',
         result -> 'actual', result -> 'limit', array(select jsonb_array_elements_text(result -> 'sampleKeys')),
         case when result ->> 'verdict' in ('hold', 'reject') then (
           select waivers.id
             from snapflip.waivers join snapflip.index_versions using (dataset, digest)
            where waivers.dataset = $2 and index_versions.tag = $3 and gate = result ->> 'gate' and until > clock_timestamp()
            order by until desc, id desc
            limit 1
         ) end
    from jsonb_array_elements($4::jsonb) with ordinality as given (result, position)`

async function requireSealedWith(
  client: pg.ClientBase,
  dataset: string,
  { tag, manifestSha256 }: Judged,
): Promise<void> {
  const now = await version(client, dataset, tag)
  if (now.manifestSha256 === manifestSha256) return
  throw new SnapflipError(
    'SUPERSEDED',
    `Expected ${tag} of ${dataset} with manifest ${manifestSha256}, which its gates read, found it sealed with ${now.manifestSha256 ?? 'none'}. ` +
      `Another attempt came first; see \`snapflip show ${dataset} ${tag}\`.`,
    { dataset, tag, manifest: now.manifestSha256, expected: manifestSha256 },
  )
}
