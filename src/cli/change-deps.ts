import type { Pool } from 'pg'
import type { ChangeDeps } from '../../activities/change-repaired.ts'
import { Alerts } from '../observe/alerts.ts'
import { createLog } from '../observe/log.ts'
import type { Session } from './session.ts'

/** What holds and quarantines need to be set and lifted. Should the store have to be repaired first, the person who asked is told. */
export function changeDeps(session: Session, pool: Pool): ChangeDeps {
  const log = createLog({ level: 'silent' })
  return {
    pool,
    store: (name) => session.store(name),
    furtherStores: (name) => session.furtherStores(name),
    log,
    // Recorded here, and delivered by a worker: the secrets of sinks are where that runs.
    alert: async (alert) => {
      session.note(`${alert.kind}: ${alert.summary}`)
      const alerts = new Alerts({ pool, config: (await session.config()).alerts, log })
      session.onClose(() => alerts.close())
      return alerts.raise(alert)
    },
  }
}
