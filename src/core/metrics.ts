import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'

/** One metric, as Prometheus and docs/metrics.md name it. Labels come from definitions and from our own words: never a key, a tag or a reason. */
export interface MetricDeclaration {
  kind: 'counter' | 'gauge' | 'histogram'
  help: string
  labels: readonly string[]
  /** Who exports it: a worker under --metrics, or a process that reads, through the registry it gives to `open`. */
  from: 'worker' | 'reader'
  /** Upper bounds, in the metric's unit; histograms only. */
  buckets?: readonly number[]
}

/** From a dataset of a few rows to one of hours. */
const REFRESH_SECONDS = [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400]

/** Every metric there is. docs/metrics.md lists them, the rules and the dashboard beside it use no other; a test holds them to this. */
export const METRICS = {
  snapflip_refresh_duration_seconds: {
    kind: 'histogram',
    help: 'How long refreshes took that this worker closed, all steps together, by how they ended',
    labels: ['dataset', 'status'],
    from: 'worker',
    buckets: REFRESH_SECONDS,
  },
  snapflip_step_duration_seconds: {
    kind: 'histogram',
    help: 'How long each step took of the refreshes that this worker closed',
    labels: ['dataset', 'step'],
    from: 'worker',
    buckets: REFRESH_SECONDS,
  },
  snapflip_refresh_running_seconds: {
    kind: 'gauge',
    help: 'How long the open refresh has been open; 0 when none is',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_source_lag_seconds: {
    kind: 'gauge',
    help: 'How long the oldest change that is not served can have been waiting: since the watermark up to which the active version is current; 0 when it has every change',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_source_lag_changes: {
    kind: 'gauge',
    help: 'Captured changes and events that the active version does not have; what lies beyond the first 100000 of the changelog is not counted',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_drift_keys: {
    kind: 'gauge',
    help: 'Keys that differ between source and version, as the drift gate found it of the version judged last',
    labels: ['dataset', 'index'],
    from: 'worker',
  },
  snapflip_drift_share: {
    kind: 'gauge',
    help: 'Of the keys that the drift gate compared, the share that differs (0 to 1)',
    labels: ['dataset', 'index'],
    from: 'worker',
  },
  snapflip_staleness_seconds: {
    kind: 'gauge',
    help: 'Time since the watermark up to which the active version is known to be current',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_staleness_budget_seconds: {
    kind: 'gauge',
    help: 'The staleness that the definition allows; absent where none is declared',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_active_version_age_seconds: {
    kind: 'gauge',
    help: 'Time since the active version was sealed; after a rollback that of the older one',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_on_hold: {
    kind: 'gauge',
    help: '1 while the dataset is on hold',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_open_flips: {
    kind: 'gauge',
    help: 'Flips and rollbacks whose outcome is not recorded yet',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_store_bytes: {
    kind: 'gauge',
    help: 'Stored bytes of the blocks and pages that the kept versions are made of, what they share once',
    labels: ['dataset', 'store'],
    from: 'worker',
  },
  snapflip_changelog_bytes: {
    kind: 'gauge',
    help: 'Bytes of the changelog with its indexes, of all datasets together',
    labels: [],
    from: 'worker',
  },
  snapflip_delaying_transactions: {
    kind: 'gauge',
    help: 'Transactions that write to a source of the dataset, were open at the watermark that is served and are open still: no version has their changes yet',
    labels: ['dataset'],
    from: 'worker',
  },
  snapflip_alerts_total: {
    kind: 'counter',
    help: 'Alerts that this worker raised, repeats of an incident included',
    labels: ['dataset', 'kind'],
    from: 'worker',
  },
  snapflip_undelivered_alerts: {
    kind: 'gauge',
    help: 'Alerts of the last three days that a sink has not got, once a round of tries has failed',
    labels: [],
    from: 'worker',
  },
  snapflip_task_queue_backlog: {
    kind: 'gauge',
    help: 'Tasks that wait in Temporal for a worker, about: of workflows, of activities, of builds',
    labels: ['tasks'],
    from: 'worker',
  },
  snapflip_scrape_errors_total: {
    kind: 'counter',
    help: 'What could not be measured for a scrape, by who did not answer in time: registry, store, temporal. Its gauges are left out then',
    labels: ['part'],
    from: 'worker',
  },
  snapflip_reads_total: {
    kind: 'counter',
    help: 'Keys that were looked up, by what came of it: hit, miss, or error (a call that the version could not answer: damaged, missing, of another shape, without an index that the version before had); unavailable are calls that nothing could answer (no store in time, a version too stale or beyond its budget, as declared); by the store that answers when this is asked',
    labels: ['dataset', 'store', 'outcome'],
    from: 'reader',
  },
  snapflip_read_duration_seconds: {
    kind: 'histogram',
    help: 'How long a sample of the calls took (one in 16), while a build of the dataset holds its lease in the store (refreshing is true), and while none does; unknown where the leases may not be listed. Without a sum',
    labels: ['dataset', 'refreshing'],
    from: 'reader',
    buckets: LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
  },
  snapflip_block_reads_total: {
    kind: 'counter',
    help: 'Blocks that reads needed, by where they came from: the store, or memory',
    labels: ['dataset', 'from'],
    from: 'reader',
  },
  snapflip_reader_unconfirmed_seconds: {
    kind: 'gauge',
    help: 'How long ago the pointer was last read that names the version this reader serves; of several readers in a process the longest',
    labels: ['dataset'],
    from: 'reader',
  },
} as const satisfies Record<string, MetricDeclaration>

export type MetricName = keyof typeof METRICS
