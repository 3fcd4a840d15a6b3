import type { Schedule } from '../../schemas/schedule.ts'
import { putContinuous, removeContinuous } from '../temporal/continuous.ts'
import { putSchedule, removeSchedule } from '../temporal/schedules.ts'
import { temporalOf } from './follow.ts'
import type { Session } from './session.ts'
import { temporalFailure } from './temporal.ts'

/** Makes Temporal's schedule what the definition says, also where it should be: one that somebody deleted there is there again. */
export async function applySchedule(session: Session, dataset: string, schedule: Schedule | undefined): Promise<void> {
  const client = await session.temporal()
  try {
    const { taskQueue } = (await session.config()).temporal
    const continuous = schedule?.continuous
    if (continuous === undefined) await removeContinuous(client, dataset)
    if (schedule === undefined || continuous !== undefined) await removeSchedule(client, dataset)
    else await putSchedule(client, { dataset, schedule, taskQueue })
    if (continuous !== undefined) await putContinuous(client, { dataset, ...continuous, taskQueue })
  } catch (error) {
    throw temporalFailure(error, await temporalOf(session))
  }
}
