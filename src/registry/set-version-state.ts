import type pg from 'pg'
import { SnapflipError } from '../core/errors.ts'
import type { DecidedState } from '../core/history-kinds.ts'
import { mayBecome, NEXT_STATES, type VersionState } from '../core/version-state.ts'
import { lockDataset } from './dataset-lock.ts'
import { record } from './record.ts'
import { requireNoOpenFlip } from './require-no-open-flip.ts'
import { type Db, transaction } from './transaction.ts'
import { version } from './version.ts'

/** Active, retained and quarantined belong to settleFlip, quarantine and release. */
export type SettableState = Extract<VersionState, 'sealed' | 'held' | 'rejected' | 'retired' | 'swept'>

/**
 * Moves a version to another state. There already: nothing happens.
 *
 * @throws SnapflipError CONFLICT when the version may not go there or a flip to it is not settled, UNKNOWN_VERSION.
 */
export async function setVersionState(
  db: Db,
  { dataset, tag, to, why }: { dataset: string; tag: string; to: SettableState; why: string },
): Promise<void> {
  await transaction(db, async (client) => {
    await lockDataset(client, dataset)
    await requireNoOpenFlip(client, dataset, tag)
    const from = await changeState(client, { dataset, tag, to })
    if (from === to) return
    await record(client, { dataset, actor: null, kind: `version.${to}`, version: tag, detail: { from, why } })
  })
}

/** The state change alone, in a transaction that holds the lock of the dataset's row. Returns the state before. */
export async function changeState(
  client: pg.ClientBase,
  { dataset, tag, to }: { dataset: string; tag: string; to: VersionState },
): Promise<VersionState> {
  const { state, sealedAt } = await version(client, dataset, tag)
  if (state === to) return state
  if (!mayBecome(state, to) || (to === 'sealed' && sealedAt === null)) {
    const next = NEXT_STATES[state].join(', ') || 'nothing'
    throw new SnapflipError(
      'CONFLICT',
      `${tag} of ${dataset} is ${state}, which may become ${next}; expected one that may become ${to}. ` +
        `See \`snapflip show ${dataset} ${tag}\`.`,
      { dataset, tag, state, to },
    )
  }
  await client.query(CHANGE, [dataset, tag, to])
  return state
}

/** What was decided elsewhere (in a store, by another registry) need not be a step from what is known here. */
export async function followState(
  client: pg.ClientBase,
  { dataset, tag, from, to, why }: { dataset: string; tag: string; from: VersionState; to: DecidedState; why: string },
): Promise<void> {
  if (from === to) return
  await client.query(
    `update snapflip.index_versions set state = $3, state_at = clock_timestamp() where dataset = $1 and tag = $2`,
    [dataset, tag, to],
  )
  await record(client, { dataset, actor: null, kind: `version.${to}`, version: tag, detail: { from, why } })
}

const CHANGE = `
  update snapflip.index_versions
     set state = $3, state_at = clock_timestamp()
   where dataset = $1 and tag = $2`
