import { z } from 'zod'
import { urlProblem } from './outbound-url.ts'

/** What a person is told of. Each has its runbook (src/observe/alert.ts). */
const ALERT_KINDS = [
  'VERIFY_FAILED',
  'BAKE_FAILED',
  'CHANGE_MISSED',
  'LINEAGE_BROKEN',
  'COMPENSATION_FAILED',
  'ROLLBACK_UNHEALTHY',
  'STORE_REBOUND',
  'GATE_REFUSED',
  'STORE_DEGRADED',
] as const
export type AlertKind = (typeof ALERT_KINDS)[number]

/** A secret is named in the definition, never written into it. */
const variable = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable (letters, digits and _)')

const host = z
  .string()
  .regex(/^([a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:]+\])$/i, 'expected a host name or address, without port or path')
  .toLowerCase()

const common = {
  /** Hosts, as the URL names them, to which http and addresses that are not public are allowed. */
  allowHosts: z.array(host).default([]),
  /** Only these kinds, of only these datasets; all without. */
  kinds: z.array(z.enum(ALERT_KINDS)).min(1).optional(),
  datasets: z.array(z.string()).min(1).optional(),
}

const webhookSinkSchema = z
  .strictObject({
    kind: z.literal('webhook'),
    url: z.string(),
    /** Environment variable with the secret that requests are signed with. */
    secretEnv: variable,
    ...common,
  })
  .superRefine(({ url, allowHosts }, context) => {
    const message = urlProblem(url, allowHosts)
    if (message !== null) context.addIssue({ code: 'custom', path: ['url'], message, input: url })
  })

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
      z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, 'expected a name of letters, digits, _ and -'),
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
  /** Tag of the version it is about. */
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
