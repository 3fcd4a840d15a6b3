import { z } from 'zod'
import { tagSchema } from './pointer.ts'

/** Proves who asks (snapflip.tickets); the CLI gets one. Without it: whoever Temporal says, unverified. */
const ticket = z.uuid().optional()

/** What starts a refresh or a rollback, typed by hand in the Temporal UI or sent by the CLI. Nothing secret ever goes in here. */
export const refreshRequestSchema = z
  .strictObject({
    dataset: z.string().min(1),
    reason: z.string().optional(),
    /** Build from the source even where the changes alone would do. */
    full: z.boolean().optional(),
    /** Whatever the dataset's windows say; the history keeps it, with the reason. */
    outsideWindow: z.boolean().optional(),
    ticket,
  })
  .refine(({ outsideWindow, reason }) => !outsideWindow || reason, {
    path: ['reason'],
    message: 'expected one with outsideWindow, found none',
  })
export type RefreshRequest = z.infer<typeof refreshRequestSchema>

export const rollbackRequestSchema = z.strictObject({
  dataset: z.string().min(1),
  reason: z.string().min(1),
  /** Without it: the version that was active before. */
  to: tagSchema.optional(),
  /** The version to leave; refused when another one is active. Without it: whichever is active. */
  from: tagSchema.optional(),
  ticket,
})
export type RollbackRequest = z.infer<typeof rollbackRequestSchema>

/** What starts the watch over a version that a flip or rollback made active. */
export const bakeRequestSchema = z.object({ dataset: z.string().min(1), flipId: z.uuid(), tag: tagSchema })
export type BakeRequest = z.infer<typeof bakeRequestSchema>

/** A rehearsed rollback: to the version before, and back. */
export const drillRequestSchema = z.strictObject({
  dataset: z.string().min(1),
  reason: z.string().min(1).optional(),
  /** Flips to the version that is active: only the epoch rises. */
  noOp: z.boolean().default(false),
  /** Brings readers back from a drill whose workflow is gone. */
  end: z.boolean().default(false),
  ticket,
})
export type DrillRequest = z.input<typeof drillRequestSchema>

/** Forward to a version that is there already. */
export const flipRequestSchema = z.strictObject({
  dataset: z.string().min(1),
  reason: z.string().min(1),
  to: tagSchema,
  ticket,
})
export type FlipToRequest = z.infer<typeof flipRequestSchema>

/** `pass` and `warn` go on; `hold` needs a person; `reject` ends the version. In this order of weight. */
export const verdictSchema = z.enum(['pass', 'warn', 'hold', 'reject'])
export type Verdict = z.infer<typeof verdictSchema>

/** Those that come with snapflip, and `user:<name>` for those that the definition declares. */
const gateNameSchema = z.union([
  z.enum([
    'integrity',
    'rowCounts',
    'changeVolume',
    'drift',
    'sourceSchema',
    'uniqueness',
    'requiredKeys',
    'nullShare',
    'distinctShare',
    'valueSchema',
    'canary',
  ]),
  z.templateLiteral(['user:', z.string()]),
])

/** Who let a verdict pass, until when, and why. */
const waivedSchema = z.object({ by: z.string(), until: z.iso.datetime(), reason: z.string() })
export type Waived = z.infer<typeof waivedSchema>

/** The result of one gate over one index (or the whole dataset), pass or fail. Values never; keys hashed unless short samples are declared plain. */
export const gateResultSchema = z.object({
  gate: gateNameSchema,
  index: z.string().nullable(),
  verdict: verdictSchema,
  /** One sentence: what was looked at and found. */
  summary: z.string(),
  actual: z.record(z.string(), z.union([z.number(), z.string(), z.null()])),
  limit: z.record(z.string(), z.union([z.number(), z.string(), z.null()])),
  sampleKeys: z.array(z.string()).max(10),
  /** The verdict stays as it was judged. */
  waived: waivedSchema.nullable().optional(),
})
export type GateResult = z.infer<typeof gateResultSchema>

export const refreshStatusSchema = z.enum([
  'FLIPPED',
  'NOTHING_NEW',
  'HELD',
  'REJECTED',
  'ROLLED_BACK',
  'CANCELLED',
  /** Sealed, and kept for the next refresh: its window closed before the flip. */
  'KEPT',
  'SKIPPED',
  'FAILED',
])
export type RefreshStatus = z.infer<typeof refreshStatusSchema>

/** How a refresh ended. */
export interface RefreshOutcome {
  status: RefreshStatus
  refreshId: string
  /** The version made; null where none was. */
  tag: string | null
  /** The version readers are on afterwards. */
  active: string | null
  summary: string
  gates: GateResult[]
  /** Milliseconds each step took, by its name. */
  durationsMs: Record<string, number>
}

/** What starts a scheduled run: Temporal's schedule, or a person who triggers it and proves that by a ticket. */
export interface ScheduledRequest {
  dataset: string
  ticket?: string | undefined
}

/** How a scheduled run ended: as its refresh did, or SKIPPED. */
export type ScheduledOutcome = Pick<RefreshOutcome, 'status' | 'tag' | 'summary'>

/** Steps of a refresh, in order; the words of `progress`. Approval has its place but no work yet; canary and bake are taken where they are declared. */
export const REFRESH_STEPS = [
  'plan',
  'build',
  'gates',
  'stage',
  'approval',
  'canary',
  'preflip',
  'flip',
  'follow',
  'verify',
  'bake',
  'retire',
] as const
export type RefreshStep = (typeof REFRESH_STEPS)[number]

/** Answer of the `progress` query. */
export interface RefreshProgress {
  step: RefreshStep | 'done' | 'compensate'
  tag: string | null
  refreshId: string | null
  summary: string
}

/** How a rollback ended, for whoever follows the workflow. */
export interface RollbackOutcome {
  status: 'ROLLED_BACK'
  from: string
  to: string
  epoch: { registry: number; breakGlass: number }
  summary: string
  durationsMs: Record<string, number>
}

/** OVERTAKEN: a flip or rollback came in between, and stands. FAILED: a step did; `active` says where readers are. */
export interface DrillOutcome {
  status: 'DONE' | 'OVERTAKEN' | 'FAILED'
  dataset: string
  from: string
  to: string
  /** The version that is active afterwards; the summary says where an operator's pin keeps readers elsewhere. */
  active: string | null
  /** Milliseconds: `away` and `back` to the pointer, `…ToLastReader` to the last reader that was heard of; and how many `readers` that were. */
  timesMs: Record<string, number>
  summary: string
}

/** How a flip forward ended. */
export interface FlipToOutcome {
  status: 'FLIPPED'
  from: string
  to: string
  summary: string
  durationsMs: Record<string, number>
}

/** By these ids Temporal keeps to one workflow of a kind and dataset. */
export const WORKFLOW_ID = {
  refresh: (dataset: string) => `refresh:${dataset}`,
  rollback: (dataset: string) => `rollback:${dataset}`,
  /** While another rollback is at work: of the version that this flip made active, or to the version of this tag. */
  rollbackBeside: (dataset: string, about: string) => `rollback:${dataset}:${about}`,
  /** One a flip: that of the flip before may not have heard yet that it is over. */
  bake: (dataset: string, flipId: string) => `bake:${dataset}:${flipId}`,
  continuous: (dataset: string) => `continuous:${dataset}`,
  drill: (dataset: string) => `drill:${dataset}`,
  flipTo: (dataset: string) => `flip:${dataset}`,
  /** Temporal appends the time of the run. */
  scheduled: (dataset: string) => `scheduled-refresh:${dataset}`,
  /** The one of these that is at work. */
  scheduledRun: (dataset: string) => `scheduled-run:${dataset}`,
} as const
