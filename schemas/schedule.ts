import { Cron } from 'croner'
import { z } from 'zod'
import { isTimeZone } from './windows.ts'

const CRON_PARTS = 5

/** Why the expression is of no use; null when it fires. */
function faultOf(cron: string): string | null {
  if (cron.trim().split(/\s+/).length !== CRON_PARTS) {
    return `expected ${CRON_PARTS} fields (minute hour day month weekday) such as "30 2 * * *"`
  }
  try {
    return new Cron(cron, { paused: true }).nextRun() === null
      ? 'expected a time that comes, this one never does'
      : null
  } catch {
    return 'expected minute hour day month weekday such as "30 2 * * *"'
  }
}

const cronSchema = z.string().superRefine((cron, context) => {
  const fault = faultOf(cron)
  if (fault !== null) context.addIssue({ code: 'custom', message: fault, input: cron })
})

/** When a dataset refreshes by itself. `apply` makes it a Temporal Schedule. */
export const scheduleSchema = z
  .strictObject({
    /** Five-field cron expressions: each time of each of them. */
    cron: z.union([cronSchema, z.array(cronSchema).min(1)]).optional(),
    /** Instead of `cron`: this often. */
    everyMs: z.int().min(1_000).optional(),
    /** Instead of both: as soon as there is something new, at most this often. Not a Temporal Schedule but a workflow of its own. */
    continuous: z.strictObject({ atMostEveryMs: z.int().min(100).default(1_000) }).optional(),
    /** Of `cron`; daylight saving time included. */
    timezone: z.string().refine(isTimeZone, 'expected a time zone such as Europe/Vienna').default('UTC'),
    /** Each run begins up to this much later, at random: so that many datasets do not begin at once. */
    jitterMs: z.int().nonnegative().default(0),
    /** Runs missed by less than this, while Temporal was down, are made up for; the others are not. */
    catchUpMs: z.int().min(10_000).default(60_000),
  })
  .refine(
    (schedule) =>
      [schedule.cron, schedule.everyMs, schedule.continuous].filter((way) => way !== undefined).length === 1,
    'expected either `cron` or `everyMs` or `continuous`',
  )
export type Schedule = z.infer<typeof scheduleSchema>
