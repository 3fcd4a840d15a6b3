import { z } from 'zod'
import { nameSchema } from './name.ts'
import { refuseUrl, webhookShape } from './webhook.ts'

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

const share = z.number().min(0).max(1)

/** Of the sampled entries of an index. */
const columnSchema = z
  .strictObject({
    /** How many may have no value. */
    nullShare: z.strictObject({ max: share, verdict: severity.default('reject') }).optional(),
    /** How many of those with a value may, or must, have one of their own. */
    distinctShare: z
      .strictObject({ min: share.optional(), max: share.optional(), verdict: severity.default('reject') })
      .refine(({ min, max }) => min !== undefined || max !== undefined, 'expected `min`, `max` or both')
      .refine(({ min = 0, max = 1 }) => min <= max, 'expected `min` to be at most `max`')
      .optional(),
  })
  .refine(({ nullShare, distinctShare }) => nullShare ?? distinctShare, 'expected `nullShare`, `distinctShare` or both')
export type ColumnLimits = z.infer<typeof columnSchema>

/** How many entries of an index are looked at where not all are. */
export const SAMPLE_ENTRIES = 10_000
const sampleSize = z.int().positive().max(1_000_000)

const valueSchemaSchema = z.strictObject({
  /** JSON Schema (draft 2020-12); in a .ts definition a zod schema too, which is converted. */
  schema: z.record(z.string(), z.json()),
  verdict: severity.default('reject'),
  /** What this build changed (all of it, where it was built in full), all that the version holds, or a sample of that. */
  judge: z.enum(['changed', 'all', 'sample']).default('changed'),
  sample: sampleSize.optional(),
})
export type ValueSchemaLimits = z.infer<typeof valueSchemaSchema>

/** What becomes of a version when the gate itself is broken: it never passes. */
const broken = z.enum(['hold', 'reject']).default('hold')

const sqlGateSchema = z.strictObject({
  kind: z.literal('sql'),
  /** A query over `changes (index, key, before, after)`; each row that it returns speaks against the version. */
  sql: z.string().trim().min(1),
  verdict: severity.default('reject'),
  broken,
  timeoutMs: z.int().positive().max(3_600_000).default(30_000),
  /** With more changes than these it cannot judge, or judges a sample of so many. */
  changesMax: z.int().positive().max(10_000_000).default(100_000),
  beyond: z.enum(['broken', 'sample']).default('broken'),
})
export type SqlGate = z.infer<typeof sqlGateSchema>

const functionGateSchema = z.strictObject({
  kind: z.literal('function'),
  /** In a .ts or .js definition the function itself; kept as the SHA-256 of its text. */
  function: z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  broken,
  timeoutMs: z.int().positive().max(3_600_000).default(60_000),
})
export type FunctionGate = z.infer<typeof functionGateSchema>

const webhookGateSchema = z
  .strictObject({
    kind: z.literal('webhook'),
    ...webhookShape,
    broken,
    /** Of each request. */
    timeoutMs: z.int().positive().max(120_000).default(10_000),
    /** After `wait` it is asked again, until it has been asked for so long. */
    askAgainMs: z.int().min(100).max(3_600_000).default(30_000),
    giveUpMs: z.int().nonnegative().max(3_600_000).default(600_000),
  })
  .superRefine(refuseUrl)
export type WebhookGate = z.infer<typeof webhookGateSchema>

const userGateSchema = z.discriminatedUnion('kind', [sqlGateSchema, functionGateSchema, webhookGateSchema], {
  error: 'expected "sql", "function" or "webhook"',
})
export type UserGate = z.infer<typeof userGateSchema>

const keyPart = z.union([z.string().min(1), z.int()], 'expected a text that is not empty, or an integer')
/** Of one index. */
const requiredKeysSchema = z.strictObject({
  /** Each as PostgreSQL writes it; of a key of several parts a list. */
  keys: z
    .array(z.union([keyPart, z.array(keyPart).min(2).max(16)]))
    .min(1)
    .max(1000),
  verdict: severity.default('reject'),
})

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
      /** Compared this often, where versions follow each other faster (continuous mode); without it every version is. A full build always is. */
      everyMs: z.int().positive().optional(),
    })
    .prefault({}),
  /** A source whose columns changed since the parent: pass with a full build, or let a person look. */
  sourceSchema: z.strictObject({ verdict: severity.default('warn') }).prefault({}),
  /** Index → keys that no version may lack. */
  requiredKeys: z.record(nameSchema, requiredKeysSchema).optional(),
  /** Index → value column (a key of the value's JSON object, or the one column that is the value) → its limits. */
  columns: z.record(nameSchema, z.record(z.string().min(1), columnSchema)).optional(),
  /** How many entries of an index these look at; all, where it has no more. */
  columnSample: sampleSize.optional(),
  /** Index → what its values must be. */
  valueSchema: z.record(nameSchema, valueSchemaSchema).optional(),
  /** Name → a gate of your own; it judges the dataset as a whole, as `user:<name>`. */
  user: z.record(nameSchema, userGateSchema).optional(),
})
export type GateLimits = z.infer<typeof gatesSchema>
