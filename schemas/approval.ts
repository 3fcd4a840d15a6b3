import { z } from 'zod'

const DAY_MS = 86_400_000

/** When a person other than whoever asked has to say yes before readers get a version. */
export const approvalSchema = z
  .strictObject({
    /** `onHold`: what a gate holds; `always`: every version. Without either, what a gate holds ends held. */
    when: z.enum(['never', 'onHold', 'always']),
    /** After the canary, just before the flip, instead of before the canary. What a gate holds is asked before the canary even so. */
    beforeFlip: z.boolean().default(false),
    /** An unanswered request is rejected after this; a yes that no flip used counts for as long. */
    expiresAfterMs: z
      .int()
      .min(1_000)
      .max(30 * DAY_MS)
      .default(DAY_MS),
    /** Who is told that it waits (names of `alerts.sinks`; all without), after how long. */
    escalate: z
      .strictObject({ afterMs: z.int().nonnegative(), sinks: z.array(z.string().min(1)).min(1).optional() })
      .optional(),
  })
  .refine(({ expiresAfterMs, escalate }) => escalate === undefined || escalate.afterMs < expiresAfterMs, {
    path: ['escalate', 'afterMs'],
    message: 'expected less than expiresAfterMs, after which nobody waits any more',
  })
