import type { Pool } from 'pg'
// biome-ignore lint/style/noRestrictedImports: a hold is set and lifted where no worker runs
import type { HoldDeps } from '../../activities/hold.ts'
import { createLog } from '../observe/log.ts'
import type { Session } from './session.ts'

/** What setting and lifting a hold need. Should the store have to be repaired first, the person who asked is told. */
export function holdDeps(session: Session, pool: Pool): HoldDeps {
  return {
    pool,
    store: (name) => session.store(name),
    log: createLog({ level: 'silent' }),
    alert: ({ kind, summary }) => session.note(`${kind}: ${summary}`),
  }
}
