import { z } from 'zod'

/** What a dataset's definition says of its gates; told in docs/gates.md. */

/** What a version gets that is beyond a limit. */
const severity = z.enum(['warn', 'hold', 'reject'])

const percent = z.number().min(0).max(100)
/** A change is over the limit when it is more than `percent` of the parent's entries and more than `atLeast` entries. */
const volumeLimit = z.strictObject({
  percent,
  atLeast: z.int().nonnegative().default(1000),
  verdict: severity.default('reject'),
})

/** The same of bytes, before compression. They may more than double. */
const bytesLimit = z.strictObject({
  percent: z.number().min(0),
  atLeast: z
    .int()
    .nonnegative()
    .default(1 << 20),
  verdict: severity.default('hold'),
})

/** Limits from what the dataset's own good versions changed, within those that are declared. */
const calibrateSchema = z
  .strictObject({
    /** The last N of them. */
    versions: z.int().min(2).max(1000).default(20),
    /** With fewer of them the declared limits stand alone. */
    minimum: z.int().min(2).default(5),
    /** How far from the median, in standard deviations as the median absolute deviation estimates them. */
    deviations: z.number().positive().default(6),
  })
  .superRefine(({ versions, minimum }, context) => {
    if (minimum > versions)
      context.addIssue({
        code: 'custom',
        path: ['minimum'],
        message: `expected at most \`versions\` (${versions})`,
        input: minimum,
      })
  })
export type Calibration = z.infer<typeof calibrateSchema>

export const gatesSchema = z.strictObject({
  changeVolume: z
    .strictObject({
      inserted: volumeLimit.default({ percent: 50, atLeast: 1000, verdict: 'hold' }),
      updated: volumeLimit.default({ percent: 50, atLeast: 1000, verdict: 'hold' }),
      deleted: volumeLimit.default({ percent: 10, atLeast: 1000, verdict: 'reject' }),
      /** An index that loses more than `percent` of its entries, however few they are: most of a small one gone is no small change. */
      shrunk: z.strictObject({ percent, verdict: severity.default('hold') }).default({ percent: 90, verdict: 'hold' }),
      /** The index's bytes, against the parent's. */
      bytes: z.strictObject({ grown: bytesLimit.optional(), shrunk: bytesLimit.optional() }).optional(),
      calibrate: calibrateSchema.optional(),
    })
    .prefault({}),
  /** Compares source and version: `sample` entries of each index, or all of them. */
  drift: z
    .strictObject({
      mode: z.enum(['sample', 'full', 'off']).default('sample'),
      sample: z.int().positive().default(1000),
    })
    .prefault({}),
  /** A source whose columns changed since the parent: pass with a full build, or let a person look. */
  sourceSchema: z.strictObject({ verdict: severity.default('warn') }).prefault({}),
})
export type GateLimits = z.infer<typeof gatesSchema>
