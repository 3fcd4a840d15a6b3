import type { Epoch } from '../../schemas/pointer.ts'
import { isSnapflipError } from '../core/errors.ts'
import { formatEpoch } from '../core/pointer.ts'
import { type FurtherStoreRow, furtherStores } from '../registry/further-stores.ts'
import type { Session } from './session.ts'
import { formatTime } from './table.ts'

/** How a store that a dataset is published to beside its first stands: as the registry last saw it, and what its pointer says now. */
export interface FurtherStanding {
  name: string
  /** Null: the registry was not asked, or does not know it yet. */
  state: FurtherStoreRow['state'] | null
  since: Date | null
  why: string | null
  active: string | null
  epoch: Epoch | null
  /** Why its pointer could not be read. */
  error: string | null
}

export async function furtherStandings(
  session: Session,
  dataset: string,
  { registryAnswers }: { registryAnswers: boolean },
): Promise<FurtherStanding[]> {
  const rows = registryAnswers ? await furtherStores(await session.registry(), dataset) : []
  return Promise.all(
    (await session.furtherStores(dataset)).map(async ({ name, store }) => {
      const row = rows.find((one) => one.store === store.url)
      const seen = { name, state: row?.state ?? null, since: row?.since ?? null, why: row?.why ?? null }
      try {
        const pointer = (await store.pointer.read())?.pointer ?? null
        return { ...seen, active: pointer?.active?.tag ?? null, epoch: pointer?.epoch ?? null, error: null }
      } catch (error) {
        if (!isSnapflipError(error)) throw error
        return { ...seen, active: null, epoch: null, error: error.message }
      }
    }),
  )
}

/** One line for people. */
export function standingText({ state, since, why, active, epoch, error }: FurtherStanding): string {
  const at = error ?? `${active ?? 'no version'}${epoch === null ? '' : ` (epoch ${formatEpoch(epoch)})`}`
  return state === 'degraded' ? `${at}; degraded since ${formatTime(since)}: ${why}` : at
}
