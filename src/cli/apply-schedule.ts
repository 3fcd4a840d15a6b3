import type { Schedule } from '../../schemas/schedule.ts'
import { putSchedule, removeSchedule } from '../temporal/schedules.ts'
import { temporalOf } from './follow.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'

/** Makes Temporal's schedule what the definition says, also where it should be: one that somebody deleted there is there again. */
export async function applySchedule(session: Session, dataset: string, schedule: Schedule | undefined): Promise<void> {
  const client = await session.temporal()
  try {
    if (schedule === undefined) await removeSchedule(client, dataset)
    else await putSchedule(client, { dataset, schedule, taskQueue: (await session.config()).temporal.taskQueue })
  } catch (error) {
    throw temporalFailure(error, await temporalOf(session))
  }
}
