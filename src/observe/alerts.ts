import { setTimeout as sleep } from 'node:timers/promises'
import pRetry from 'p-retry'
import type pg from 'pg'
import { v7 as uuidv7 } from 'uuid'
import type { AlertBody, AlertsConfig, RemoteSink } from '../../schemas/alerts.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { bounded } from '../reader/bounded.ts'
import { type ClaimedDelivery, claimDeliveries } from '../registry/claim-deliveries.ts'
import { type RaisedAlert, raiseAlert } from '../registry/raise-alert.ts'
import { reopenDeliveries } from '../registry/reopen-deliveries.ts'
import { settleDelivery } from '../registry/settle-delivery.ts'
import { type Alert, type RaiseAlert, RUNBOOKS } from './alert.ts'
import type { Logger } from './log.ts'
import type { Resolve } from './post.ts'
import { sendAlert } from './send-alert.ts'

/** Incidents that wait for the registry to come back; the log has the others too. */
const UNRECORDED_MAX = 100
/** Sent at a time: one sink that hangs must not hold up the others. */
const IN_FLIGHT_MAX = 16
/** Of an alert that is sent; registry and history have all of it. */
const EVIDENCE_BYTES_MAX = 4_096

const TIMES = {
  /** The longest that raising an alert delays what it is about: a row is written, or the registry is given up. Sinks are not waited for. */
  raiseMs: 5_000,
  /** One try, from resolving the name to the end of the answer. */
  tryMs: 5_000,
  /** Between the tries of a round: this, then three times that. */
  backoffMs: 1_000,
  retries: 2,
  /** Longer than any round: three tries and what is between them. */
  claimMs: 30_000,
  /** How soon a worker finds what another left, or what is due again. */
  lookEveryMs: 15_000,
  /** How long a worker that stops waits for what is on its way. */
  closeMs: 5_000,
}

export interface AlertsOptions {
  pool: pg.Pool
  config: AlertsConfig
  log: Logger
  times?: Partial<typeof TIMES>
  resolve?: Resolve
}

/** Told, and not in the registry yet. */
interface Unrecorded extends RaisedAlert {
  isLogged: boolean
  delivered: string[]
  /** Each sink was tried once. */
  tried: Promise<unknown>
}

/** The one way alerts are raised, and how a worker delivers them: at least once, whichever worker raised them. */
export class Alerts {
  readonly #options: AlertsOptions
  readonly #times: typeof TIMES
  /** By dataset, kind and incident. */
  readonly #unrecorded = new Map<string, Unrecorded>()
  readonly #inFlight = new Set<Promise<void>>()
  readonly #closing = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #look: Promise<void> | undefined
  #again = false

  constructor(options: AlertsOptions) {
    this.#options = options
    this.#times = { ...TIMES, ...options.times }
  }

  /** Delivers from now on, until `close`. Without it alerts are recorded, and left to those who deliver. */
  start(): void {
    const { pool, log } = this.#options
    this.#timer = setInterval(() => this.#wake(), this.#times.lookEveryMs)
    this.#look = reopenDeliveries(pool)
      .catch((error: unknown) => log.warn({ err: error }, 'alerts that were refused could not be opened again'))
      .finally(() => {
        this.#look = undefined
        this.#wake()
      })
  }

  /** Waits for what is on its way, for a while; what is not delivered by then stays open for the next worker. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#timer = undefined
    const tried = [...this.#unrecorded.values()].map((alert) => alert.tried)
    const done = Promise.allSettled([this.#look, ...this.#inFlight, ...tried])
    const late = sleep(this.#times.closeMs, undefined, { ref: false })
    await Promise.race([done, late])
    this.#closing.abort(new Error('the worker stops'))
    await done
    await Promise.allSettled(this.#inFlight)
  }

  readonly raise: RaiseAlert = async (alert) => {
    const key = JSON.stringify([alert.dataset, alert.kind, alert.incident])
    const raised = this.#unrecorded.get(key) ?? this.#raised(alert)
    try {
      const { raiseMs } = this.#times
      const late = () => new Error(`the registry did not answer within ${raiseMs} ms`)
      await bounded(this.#record(key, raised), raiseMs, late)
      return true
    } catch (error) {
      this.#tellUnrecorded(key, raised, error)
      return false
    }
  }

  #raised({ kind, dataset, version, incident, summary, evidence, actor, sinks }: Alert): Unrecorded {
    const { runbooks } = this.#options.config
    const page = RUNBOOKS[kind]
    return {
      id: uuidv7(),
      kind,
      dataset,
      version,
      incident,
      summary,
      evidence: { ...evidence },
      runbook: runbooks === undefined ? page : `${runbooks.replace(/\/$/, '')}/${page.replace(/^runbooks\//, '')}`,
      actor: actor ?? null,
      sinks: [...this.#sinks()]
        .filter(([name, sink]) => sinks?.includes(name) ?? wants(sink, { kind, dataset }))
        .map(([name]) => name),
      delivered: [],
      isLogged: false,
      tried: Promise.resolve(),
    }
  }

  async #record(key: string, raised: Unrecorded): Promise<void> {
    await raised.tried
    const { isNew, version } = await raiseAlert(this.#options.pool, raised)
    raised.version = version
    this.#unrecorded.delete(key)
    if (isNew) this.#log(raised)
    this.#wake()
  }

  /** The sink that is always there: one line at level error, marked `alert`. */
  #log(raised: Unrecorded, error?: unknown): void {
    if (raised.isLogged) return
    raised.isLogged = true
    const { kind, dataset, version, incident, runbook, summary } = raised
    const evidence = short(raised)
    const unrecorded = error === undefined ? {} : { recorded: false, err: error }
    this.#options.log.error({ alert: kind, dataset, version, incident, evidence, runbook, ...unrecorded }, summary)
  }

  /** Once an incident too. It goes into the registry when that answers again, should this process live to see it. */
  #tellUnrecorded(key: string, raised: Unrecorded, error: unknown): void {
    if (raised.isLogged) return
    this.#log(raised, error)
    if (this.#unrecorded.size >= UNRECORDED_MAX) return
    this.#unrecorded.set(key, raised)
    const { id, kind, dataset, version, incident, summary, evidence, runbook, sinks, delivered } = raised
    const at = new Date().toISOString()
    const body = { id, at, kind, dataset, version, incident, summary, evidence, runbook }
    const once = async (sink: string) => {
      await this.#send(sink, body, 0)
      delivered.push(sink)
    }
    raised.tried = Promise.all(sinks.map((sink) => once(sink).catch((cause) => this.#notDelivered(body, sink, cause))))
  }

  #wake(): void {
    if (this.#timer === undefined) return
    this.#again = true
    this.#look ??= this.#lookWhileWoken().finally(() => {
      this.#look = undefined
    })
  }

  async #lookWhileWoken(): Promise<void> {
    while (this.#again) {
      this.#again = false
      await this.#recordLate()
      try {
        const limit = IN_FLIGHT_MAX - this.#inFlight.size
        const { claimMs } = this.#times
        const claimed = limit > 0 ? await claimDeliveries(this.#options.pool, { limit, claimMs }) : []
        for (const delivery of claimed) this.#begin(delivery)
      } catch (error) {
        this.#options.log.warn({ err: error }, 'alerts that are due could not be looked for')
      }
    }
  }

  /** What could not be recorded when it was raised, until one still cannot: that waits behind the others. */
  async #recordLate(): Promise<void> {
    for (const [key, raised] of [...this.#unrecorded]) {
      try {
        await this.#record(key, raised)
      } catch (error) {
        this.#options.log.warn({ err: error, incident: raised.incident }, 'an alert could not be recorded yet')
        this.#unrecorded.delete(key)
        this.#unrecorded.set(key, raised)
        return
      }
    }
  }

  #begin(delivery: ClaimedDelivery): void {
    const delivered = this.#deliver(delivery).finally(() => {
      this.#inFlight.delete(delivered)
      this.#wake()
    })
    this.#inFlight.add(delivered)
  }

  async #deliver({ sink, alert }: ClaimedDelivery): Promise<void> {
    const ended = await this.#send(sink, alert, this.#times.retries).then(
      () => ({ result: 'delivered', found: null }) as const,
      (error: unknown) => {
        this.#notDelivered(alert, sink, error)
        const result = isSnapflipError(error, 'WEBHOOK_REFUSED') ? 'refused' : 'failed'
        return { result, found: foundOf(error) } as const
      },
    )
    await settleDelivery(this.#options.pool, { alert: alert.id, sink, ...ended }).catch((error: unknown) => {
      // Its claim ends by itself: then it is sent again, under the same id.
      this.#options.log.warn({ err: error, sink, id: alert.id }, 'what became of an alert could not be recorded')
    })
  }

  #send(name: string, alert: AlertBody, retries: number): Promise<void> {
    const { tryMs, backoffMs } = this.#times
    const { signal } = this.#closing
    const sink = this.#sinks().get(name)
    if (sink === undefined) return Promise.reject(removed(name))
    const options = { timeoutMs: tryMs, signal, ...(this.#options.resolve && { resolve: this.#options.resolve }) }
    const body = { ...alert, evidence: short(alert) }
    return pRetry(() => sendAlert(name, sink, body, options), {
      retries,
      minTimeout: backoffMs,
      factor: 3,
      signal,
      shouldRetry: ({ error }) => isSnapflipError(error) && error.retryable,
    })
  }

  #notDelivered({ kind, dataset, incident, id }: AlertBody, sink: string, error: unknown): void {
    this.#options.log.warn({ sink, kind, dataset, incident, id, found: foundOf(error) }, 'an alert was not delivered')
  }

  #sinks(): Map<string, RemoteSink> {
    const sinks = Object.entries(this.#options.config.sinks)
    return new Map(sinks.flatMap(([name, sink]) => (sink.kind === 'log' ? [] : [[name, sink]])))
  }
}

const wants = ({ kinds, datasets }: RemoteSink, { kind, dataset }: Pick<Alert, 'kind' | 'dataset'>) =>
  (kinds?.includes(kind) ?? true) && (datasets?.includes(dataset) ?? true)

function short({ dataset, evidence }: Pick<AlertBody, 'dataset' | 'evidence'>): Record<string, unknown> {
  const bytes = Buffer.byteLength(JSON.stringify(evidence))
  if (bytes <= EVIDENCE_BYTES_MAX) return evidence
  const whole = `snapflip history ${dataset} --kind alert --json`
  return { omitted: `${bytes} bytes, more than the ${EVIDENCE_BYTES_MAX} that are sent; \`${whole}\` has them` }
}

const foundOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

function removed(sink: string): SnapflipError {
  return new SnapflipError(
    'CONFIG_INVALID',
    `Expected alerts.sinks.${sink} in the definition of this worker, found none. Name it again, or let what is due to it expire.`,
    { sink },
  )
}
