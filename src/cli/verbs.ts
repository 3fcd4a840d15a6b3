import type { Command } from 'commander'
import { apply } from './apply.ts'
import { approve } from './approve.ts'
import { cancel } from './cancel.ts'
import { detach } from './detach.ts'
import { diff } from './diff.ts'
import { doctor } from './doctor.ts'
import { drill } from './drill.ts'
import { explain } from './explain.ts'
import { flip } from './flip.ts'
import { get } from './get.ts'
import { history } from './history.ts'
import { hold } from './hold.ts'
import { incident } from './incident.ts'
import { init } from './init.ts'
import { migrate } from './migrate.ts'
import { pin } from './pin.ts'
import { plan } from './plan.ts'
import { policy } from './policy.ts'
import { quarantine } from './quarantine.ts'
import { refresh } from './refresh.ts'
import { reject } from './reject.ts'
import { release } from './release.ts'
import { resume } from './resume.ts'
import { rollback } from './rollback.ts'
import { schedule } from './schedule.ts'
import { servedAt } from './served-at.ts'
import { show } from './show.ts'
import { status } from './status.ts'
import { up } from './up.ts'
import { verify } from './verify.ts'
import { versions } from './versions.ts'
import { waive } from './waive.ts'
import { worker } from './worker.ts'

/** In the order of the help. */
export const VERBS: readonly ((program: Command) => void)[] = [
  init,
  plan,
  apply,
  policy,
  detach,
  worker,
  up,
  refresh,
  cancel,
  approve,
  reject,
  schedule,
  rollback,
  flip,
  drill,
  hold,
  resume,
  quarantine,
  release,
  waive,
  pin,
  status,
  versions,
  show,
  get,
  explain,
  diff,
  verify,
  history,
  servedAt,
  incident,
  migrate,
  doctor,
]
