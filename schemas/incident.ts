import { z } from 'zod'

const time = z.iso.datetime()
const detail = z.record(z.string(), z.unknown())

const entrySchema = z.object({
  seq: z.int().positive(),
  at: time,
  dataset: z.string().nullable(),
  actor: z.string(),
  kind: z.string(),
  version: z.string().nullable(),
  detail,
  hash: z.string(),
})

/** One move of readers, by its moments. Null: nobody noted it, or it was not reached. */
const movementSchema = z.object({
  flipId: z.uuid(),
  dataset: z.string(),
  kind: z.enum(['flip', 'rollback', 'drill']),
  from: z.string().nullable(),
  to: z.string(),
  actor: z.string(),
  reason: z.string().nullable(),
  outcome: z.enum(['confirmed', 'refused', 'failed']).nullable(),
  /** Of what it leaves: the first alert or failed bake since readers were on it. A rollback without one was a person's own idea. */
  detectedAt: time.nullable(),
  detectedBy: z.string().nullable(),
  wantedAt: time,
  settledAt: time.nullable(),
  /** The last report of a reader that still answered from what it leaves, by that reader's clock; stores keep reports for an hour. */
  lastReaderAt: time.nullable(),
})

const versionSchema = z.object({
  dataset: z.string(),
  tag: z.string(),
  state: z.string(),
  parent: z.string().nullable(),
  digest: z.string().nullable(),
  manifestSha256: z.string().nullable(),
  watermarkAt: z.string().nullable(),
  refreshId: z.string().nullable(),
  createdAt: time,
  sealedAt: time.nullable(),
  /** What the build saw of each index. */
  counts: detail.nullable(),
  gates: z.array(
    z.object({
      gate: z.string(),
      index: z.string().nullable(),
      verdict: z.string(),
      summary: z.string(),
      actual: detail,
      limit: detail,
      /** Hashes of keys. */
      sampleKeys: z.array(z.string()),
      at: time,
    }),
  ),
  /** Approvals, waivers, what canary and bake found, quarantines: of any time. */
  decisions: z.array(entrySchema),
})

/** What could not be asked: its absence elsewhere says nothing. */
const missingSchema = z.object({ part: z.string(), why: z.string() })
export type Missing = z.infer<typeof missingSchema>

/** Lists that are bounded. */
const CUT = ['timeline', 'movements', 'refreshes', 'alerts'] as const

/** What `snapflip incident export` writes: one document for whoever looks into it later. No rows, no secrets. Fields may be added. */
export const incidentSchema = z.object({
  format: z.literal(1),
  exportedAt: time,
  /** Null: all. */
  dataset: z.string().nullable(),
  flipId: z.uuid().nullable(),
  since: time,
  until: time,
  /** Entries of the history, oldest first. */
  timeline: z.array(entrySchema),
  /** Lists of which there were more: the oldest are left out. */
  cut: z.array(z.enum(CUT)),
  missing: z.array(missingSchema),
  movements: z.array(movementSchema),
  refreshes: z.array(
    z.object({
      refreshId: z.uuid(),
      dataset: z.string(),
      requestedBy: z.string(),
      reason: z.string().nullable(),
      full: z.boolean(),
      openedAt: time,
      closedAt: time.nullable(),
      status: z.string().nullable(),
      tag: z.string().nullable(),
      summary: z.string().nullable(),
      /** Milliseconds of each step. */
      durationsMs: z.record(z.string(), z.number()).nullable(),
    }),
  ),
  versions: z.array(versionSchema),
  alerts: z.array(
    z.object({
      id: z.uuid(),
      kind: z.string(),
      dataset: z.string(),
      version: z.string().nullable(),
      incident: z.string(),
      summary: z.string(),
      evidence: detail,
      runbook: z.string(),
      raisedAt: time,
      times: z.int().positive(),
      lastAt: time,
      /** By the sink's name: null while it is not settled. */
      deliveries: z.record(z.string(), z.string().nullable()),
    }),
  ),
  /** As a worker would have told them when this was exported; docs/metrics.md says what each means. */
  metrics: z.array(z.object({ name: z.string(), labels: z.record(z.string(), z.string()), value: z.number() })),
  chain: z.discriminatedUnion('verified', [
    z.object({
      verified: z.literal(true),
      entries: z.int(),
      hash: z.string(),
      anchors: z.int(),
      /** Anchors that the history does not lead to, and that a person accepted. */
      accepted: z.array(
        z.object({
          seq: z.int(),
          hash: z.string(),
          entry: z.int(),
          by: z.string(),
          at: z.iso.datetime(),
          reason: z.string(),
        }),
      ),
    }),
    z.object({ verified: z.literal(false), found: z.string() }),
  ]),
})
export type Incident = z.infer<typeof incidentSchema>
