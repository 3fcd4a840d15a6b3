import type { Waived } from '../../schemas/refresh.ts'
import { SnapflipError } from '../core/errors.ts'
import { lockDataset } from './dataset-lock.ts'
import { gateResults } from './gate-results.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/** Of what a version holds, for one gate, until a time. */
export interface WaiverWanted {
  dataset: string
  tag: string
  gate: string
  until: Date
  reason: string
}

/**
 * Lets what the version holds pass one gate that refused it, until then. By the database's session_user. The next refresh takes the version again.
 *
 * @throws SnapflipError USAGE when the gate did not refuse it, its verdict cannot be waived, or the time is past; UNKNOWN_VERSION.
 */
export async function waive(db: Db, wanted: WaiverWanted): Promise<Waived> {
  const { dataset, tag, gate, until, reason } = wanted
  return transaction(db, async (client) => {
    await lockDataset(client, dataset)
    await version(client, dataset, tag)
    const refused = (await gateResults(client, dataset, tag))
      .filter(({ verdict }) => verdict === 'hold' || verdict === 'reject')
      .map((result) => result.gate as string)
    const look = `See \`snapflip show ${dataset} ${tag}\`.`
    if (!refused.includes(gate)) {
      throw usage(
        wanted,
        `Expected a gate that refused ${tag} of ${dataset} (${[...new Set(refused)].join(', ') || 'none did'}), found ${JSON.stringify(gate)}. ${look}`,
      )
    }
    // Its verdict is about the bytes in the store, not about what they say.
    if (gate === 'integrity')
      throw usage(
        wanted,
        `integrity cannot be waived: ${tag} of ${dataset} does not read back as written. Refresh again.`,
      )
    const { rows: clock } = await client.query<{ now: Date }>('select clock_timestamp() as now')
    const now = clock[0]?.now ?? new Date()
    if (until <= now)
      throw usage(
        wanted,
        `Expected --until after ${now.toISOString()}, found ${until.toISOString()}. Nothing was waived.`,
      )
    await client.query('select snapflip.waive($1, $2, $3, $4, $5)', [dataset, tag, gate, until, reason])
    const { rows } = await client.query<{ by: string }>('select session_user as by')
    return { by: rows[0]?.by ?? '', until: until.toISOString(), reason }
  })
}

function usage({ dataset, tag, gate }: WaiverWanted, message: string): SnapflipError {
  return new SnapflipError('USAGE', message, { dataset, tag, gate })
}
