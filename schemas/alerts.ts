import { z } from 'zod'
import { nameSchema } from './name.ts'
import { allowHosts, refuseUrl, variable, webhookShape } from './webhook.ts'

/** What a person is told of. Each has its runbook (src/observe/alert.ts). */
const ALERT_KINDS = [
  'VERIFY_FAILED',
  'BAKE_FAILED',
  'CHANGE_MISSED',
  'LINEAGE_BROKEN',
  'HISTORY_BROKEN',
  'COMPENSATION_FAILED',
  'ROLLBACK_UNHEALTHY',
  'STORE_REBOUND',
  'GATE_REFUSED',
  'STORE_DEGRADED',
  'REFRESH_FAILING',
  'VERSION_EXPIRED',
  'APPROVAL_WAITING',
] as const
export type AlertKind = (typeof ALERT_KINDS)[number]

const common = {
  allowHosts,
  /** Only these kinds, of only these datasets; all without. */
  kinds: z.array(z.enum(ALERT_KINDS)).min(1).optional(),
  datasets: z.array(z.string()).min(1).optional(),
}

const webhookSinkSchema = z
  .strictObject({
    kind: z.literal('webhook'),
    ...webhookShape,
    ...common,
  })
  .superRefine(refuseUrl)

const slackSinkSchema = z.strictObject({
  kind: z.literal('slack'),
  /** Environment variable with the URL, which is itself the secret: whoever has it can post. */
  urlEnv: variable,
  ...common,
})

/** Always there; it may be named. */
const logSinkSchema = z.strictObject({ kind: z.literal('log') })

export const alertsSchema = z.strictObject({
  /** Where the runbooks are kept, should it be elsewhere than in the package: `https://git.example.com/ops/runbooks`. */
  runbooks: z
    .string()
    .regex(/^https?:\/\/\S+$/, 'expected a URL of http or https')
    .optional(),
  sinks: z
    .record(
      nameSchema,
      z.discriminatedUnion('kind', [webhookSinkSchema, slackSinkSchema, logSinkSchema], {
        error: 'expected "webhook", "slack" or "log"',
      }),
    )
    .default({}),
})
export type AlertsConfig = z.infer<typeof alertsSchema>
export type RemoteSink = Exclude<AlertsConfig['sinks'][string], { kind: 'log' }>

/** What a webhook is sent, the same at each try. Fields and kinds may be added: take what you know. */
export const alertBodySchema = z.object({
  /** Of the alert; also in the header `snapflip-delivery`. What comes twice has the same. */
  id: z.uuid(),
  at: z.iso.datetime(),
  kind: z.string(),
  dataset: z.string(),
  /** Tag of the version it is about, else of the one that readers are on by the registry; null before the first. */
  version: z.string().nullable(),
  /** With kind and dataset, tells this incident from all others. */
  incident: z.string(),
  summary: z.string(),
  /** Ids, counts and hashes of keys; never rows. */
  evidence: z.record(z.string(), z.unknown()),
  /** URL, or path within the package. */
  runbook: z.string(),
})
export type AlertBody = z.infer<typeof alertBodySchema>
