import { z } from 'zod'
import { alertsSchema } from './alerts.ts'
import { approvalSchema } from './approval.ts'
import { gatesSchema } from './gates.ts'
import { nameSchema } from './name.ts'
import { ttlSchema } from './pointer.ts'
import { retriesSchema } from './retries.ts'
import { maySchema, rolesSchema } from './roles.ts'
import { scheduleSchema } from './schedule.ts'
import { bakePolicySchema, canaryPolicySchema } from './watch.ts'
import { windowsSchema } from './windows.ts'

/**
 * The definition: `snapflip.config.ts` (or .js, .json). Parsed here; what it means for the database (tables, columns, expressions)
 * is checked by `src/changelog/definition.ts` against PostgreSQL itself.
 */

/** A column name or an SQL expression over the row. */
const expression = z.string().trim().min(1)

/** Readers may rely on these limits; see docs/format.md. */
export const KEY_BYTES_MAX = 512
export const VALUE_BYTES_MAX = 1 << 20

export const tableIndexSchema = z.strictObject({
  /** Table or view, as PostgreSQL reads it: `public.products`, `"Odd Schema"."Odd Table"`. */
  from: z.string().trim().min(1),
  /** A column, several, or an expression. Evaluated as text. Rows whose key is null are not in the index. */
  key: z.union([expression, z.array(expression).min(1).max(16)]),
  /** A list of columns (a JSON object of them), or one column or expression (its to_json). */
  value: z.union([expression, z.array(z.string().trim().min(1)).min(1)]),
  /** Rows for which it is not true are not in the index. */
  where: expression.optional(),
  /** One key, many values. */
  many: z.boolean().default(false),
  /** `many` only: values of a key stand in this order, then by their bytes. */
  order: expression.optional(),
  /** `triggers` captures row changes; `none` (views, read-only sources) is rebuilt in full each time. */
  capture: z.enum(['triggers', 'none']).default('triggers'),
  /** `capture: 'none'` only: what was read serves until it is this old, instead of being read again by each refresh. */
  rebuildAfterMs: z.int().positive().optional(),
  keyBytesMax: z.int().positive().max(65535).default(KEY_BYTES_MAX),
  valueBytesMax: z
    .int()
    .positive()
    .max(1 << 28)
    .default(VALUE_BYTES_MAX),
})
export const eventsIndexSchema = z.strictObject({
  /** Appended by the application with `snapflip.append(dataset, index, key, value)` in its own transaction. */
  events: z.literal(true),
  keyBytesMax: z.int().positive().max(65535).default(KEY_BYTES_MAX),
  valueBytesMax: z
    .int()
    .positive()
    .max(1 << 28)
    .default(VALUE_BYTES_MAX),
})
export const indexSchema = z.union([tableIndexSchema, eventsIndexSchema])
export type TableIndex = z.infer<typeof tableIndexSchema>
export type IndexDefinition = z.infer<typeof indexSchema>

export const datasetSchema = z.strictObject({
  /**
   * Names of `stores`. Versions are built in the first, which serves reads by default; the others get them by copy, in this order, and are what the
   * first is built back from.
   */
  stores: z.array(nameSchema).min(1),
  /**
   * What becomes of a version that cannot be published to one of the further stores: it goes back everywhere, or that store stays behind until the
   * reconciler brings it up (the default).
   */
  publish: z.strictObject({ onFailure: z.enum(['rollback', 'degrade']) }).optional(),
  indexes: z
    .record(nameSchema, indexSchema)
    .refine((indexes) => Object.keys(indexes).length > 0, 'expected at least one index'),
  gates: gatesSchema.prefault({}),
  /** Lets some readers have a version before all of them do; without it there is no canary. */
  canary: canaryPolicySchema.optional(),
  /** Watches a version after the flip, and takes readers back from a bad one; without it there is no bake. */
  bake: bakePolicySchema.optional(),
  roles: rolesSchema.optional(),
  may: maySchema.prefault({}),
  approval: approvalSchema.optional(),
  /** Refreshes by itself; without it when somebody asks. */
  schedule: scheduleSchema.optional(),
  /** When it may be refreshed, by itself or by hand; without it always. */
  windows: windowsSchema.optional(),
  /** Of refreshes that nobody asked for; without it none is tried again before it is due. */
  retries: retriesSchema.optional(),
  /** How old what is served may be before readers mark it, or refuse. It tells; what is right never depends on it. */
  ttl: z.strictObject(ttlSchema.shape).optional(),
  /** How many versions stay, the active one included. */
  keep: z.int().min(2).default(5),
  /** A version younger than this is not retired, leases or not. */
  retireAfterMs: z.int().nonnegative().default(60_000),
  /** Evidence older than this cannot flip. */
  evidenceMaxAgeMs: z.int().positive().default(3_600_000),
})
export type DatasetDefinition = z.infer<typeof datasetSchema>

export const configSchema = z.strictObject({
  /** PostgreSQL URL, or options as pg takes them (`connectionString`, `ssl`, …). */
  database: z.union([
    z.string().min(1),
    z.looseObject({ connectionString: z.string().optional(), host: z.string().optional() }),
  ]),
  temporal: z
    .strictObject({
      address: z.string().default('localhost:7233'),
      namespace: z.string().default('default'),
      taskQueue: z.string().default('snapflip'),
      apiKey: z.string().optional(),
      tls: z.union([z.boolean(), z.looseObject({})]).optional(),
      /** A profile of Temporal's environment configuration (TEMPORAL_CONFIG_FILE); its values come first. */
      profile: z.string().optional(),
    })
    .prefault({}),
  /** Name → `redis://`, `rediss://`, `s3://bucket/prefix?region=&endpoint=`, `file:./folder`. */
  stores: z.record(nameSchema, z.string().min(1)),
  datasets: z.record(
    nameSchema,
    datasetSchema.refine(({ canary, evidenceMaxAgeMs }) => canary === undefined || canary.forMs < evidenceMaxAgeMs, {
      path: ['canary', 'forMs'],
      message: 'expected less than `evidenceMaxAgeMs`: by its end the evidence of the other gates could not flip',
    }),
  ),
  /** Who is told what must be told, besides the log; see docs/alerts.md. */
  alerts: alertsSchema.prefault({}),
})
export type Config = z.infer<typeof configSchema>
/** What a person writes: defaults may be left out. */
export type ConfigInput = z.input<typeof configSchema>
