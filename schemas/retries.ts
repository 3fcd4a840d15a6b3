import { z } from 'zod'

/** What becomes of a refresh that failed when nobody had asked for it: a schedule's, or that of continuous mode. */
export const retriesSchema = z
  .strictObject({
    /** Refreshes in a row, the first included. */
    attempts: z.int().min(1).max(100),
    /** Before the second; each further one waits `factor` times as long, up to `maxMs`. */
    initialMs: z.int().positive().default(30_000),
    factor: z.number().min(1).max(10).default(2),
    maxMs: z.int().positive().default(900_000),
    /** Codes of runbooks/errors.md; without it those that time alone may mend. */
    codes: z.array(z.string()).min(1).optional(),
    /** Names of `alerts.sinks` that are told when it is used up; without it all that take REFRESH_FAILING. */
    tell: z.array(z.string()).min(1).optional(),
  })
  .refine(({ initialMs, maxMs }) => initialMs <= maxMs, 'expected `initialMs` of at most `maxMs`')
export type Retries = z.infer<typeof retriesSchema>
