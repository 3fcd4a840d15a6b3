import type { Pool } from 'pg'
// biome-ignore lint/style/noRestrictedImports: people change the pointer where no worker runs
import type { ChangeDeps } from '../../activities/change-repaired.ts'
import { createLog } from '../observe/log.ts'
import type { Session } from './session.ts'

/** What holds and quarantines need to be set and lifted. Should the store have to be repaired first, the person who asked is told. */
export function changeDeps(session: Session, pool: Pool): ChangeDeps {
  return {
    pool,
    store: (name) => session.store(name),
    log: createLog({ level: 'silent' }),
    alert: ({ kind, summary }) => session.note(`${kind}: ${summary}`),
  }
}
