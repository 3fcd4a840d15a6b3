import { AsyncLocalStorage } from 'node:async_hooks'
import { createRequire } from 'node:module'
import type { Context, ContextManager } from '@opentelemetry/api'
import type { InjectedSinks, WorkerInterceptors } from '@temporalio/worker'
import { SnapflipError } from '../core/errors.ts'
import { npmInstall } from '../package-version.ts'

/** What a worker takes to tell of its workflows and activities. */
export interface Traces {
  interceptors: WorkerInterceptors
  sinks: InjectedSinks<never>
  /** Sends what is left. */
  close(): Promise<void>
}

/** Installed by those who want traces: nobody else pays for them. */
export const PACKAGES = [
  '@temporalio/interceptors-opentelemetry',
  '@opentelemetry/sdk-trace-base',
  '@opentelemetry/resources',
  '@opentelemetry/exporter-trace-otlp-http',
]

/**
 * Sends the spans of workflows and activities to a collector, by OTLP over HTTP. A process has one: they are OpenTelemetry's global ones.
 *
 * @throws SnapflipError CONFIG_INVALID naming the packages that are missing.
 */
export async function openTraces(url: string): Promise<Traces> {
  const [
    { makeWorkflowExporter, ...inbound },
    { BasicTracerProvider, BatchSpanProcessor },
    { Resource },
    { OTLPTraceExporter },
  ] = await Promise.all([
    import('@temporalio/interceptors-opentelemetry'),
    import('@opentelemetry/sdk-trace-base'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/exporter-trace-otlp-http'),
  ]).catch((error: unknown) => {
    throw missing(error)
  })
  const resolve = createRequire(import.meta.url).resolve
  const interceptors = resolve('@temporalio/interceptors-opentelemetry')
  // The one that they use: another copy would have another context.
  const { ROOT_CONTEXT } = createRequire(interceptors)('@opentelemetry/api') as typeof import('@opentelemetry/api')
  const resource = new Resource({ 'service.name': 'snapflip-worker' })
  const processor = new BatchSpanProcessor(new OTLPTraceExporter({ url }))
  const provider = new BasicTracerProvider({ resource, spanProcessors: [processor] })
  provider.register({ contextManager: new AsyncContexts(ROOT_CONTEXT) })
  const { OpenTelemetryActivityInboundInterceptor } = inbound
  return {
    interceptors: {
      activity: [(context) => ({ inbound: new OpenTelemetryActivityInboundInterceptor(context) })],
      workflowModules: [resolve('@temporalio/interceptors-opentelemetry/lib/workflow-interceptors')],
    },
    sinks: { exporter: makeWorkflowExporter(processor, resource) } as InjectedSinks<never>,
    close: () => provider.shutdown(),
  }
}

function missing(error: unknown): SnapflipError {
  return new SnapflipError(
    'CONFIG_INVALID',
    `Expected the packages that traces need, found that one is missing. Install them: ${npmInstall(PACKAGES)}`,
    { packages: PACKAGES.join(' ') },
    error,
  )
}

/** What an activity was called with stays its context through everything it awaits. */
class AsyncContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>()
  readonly #root: Context

  constructor(root: Context) {
    this.#root = root
  }

  active(): Context {
    return this.#storage.getStore() ?? this.#root
  }

  with<A extends unknown[], F extends (...args: A) => ReturnType<F>>(
    context: Context,
    work: F,
    thisArg?: ThisParameterType<F>,
    ...args: A
  ): ReturnType<F> {
    return this.#storage.run(context, () => work.apply(thisArg, args))
  }

  bind<T>(context: Context, target: T): T {
    if (typeof target !== 'function') return target
    const storage = this.#storage
    return function (this: unknown, ...args: unknown[]) {
      return storage.run(context, () => target.apply(this, args))
    } as T
  }

  enable(): this {
    return this
  }

  disable(): this {
    this.#storage.disable()
    return this
  }
}
