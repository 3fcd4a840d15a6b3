import { SnapflipError } from '../../src/core/errors.ts'
import type {
  CounterStore,
  DataStore,
  GenerationWriter,
  LeaseStore,
  PointerStore,
  Store,
} from '../../src/stores/ports.ts'

/** Every call of the ports that can fail, by name. */
export type StoreOperation =
  | `data.${Exclude<keyof DataStore, 'layout'>}`
  | `writer.${Exclude<keyof GenerationWriter, 'generation'>}`
  | `pointer.${Exclude<keyof PointerStore, 'watch'>}`
  | `leases.${keyof LeaseStore}`
  | `counters.${keyof CounterStore}`
  | 'store.check'
  | 'store.freeBytes'

export type Fault =
  /** The call is made, later. */
  | { kind: 'delay'; ms: number }
  /** The call is made when `until` resolves: a process that was paused. */
  | { kind: 'pause'; until: Promise<unknown> }
  /** The call is never made. */
  | { kind: 'before'; error?: unknown }
  /** The call is made; its reply is lost. */
  | { kind: 'after'; error?: unknown }

/** What is to go wrong, and what was called. Faults of an operation happen one a call, in the order planned. */
export class FaultPlan {
  readonly #planned = new Map<StoreOperation, Fault[]>()
  readonly #calls: StoreOperation[] = []

  fail(operation: StoreOperation, fault: Fault, times = 1): this {
    const faults = this.#planned.get(operation) ?? []
    this.#planned.set(operation, faults)
    for (let time = 0; time < times; time++) faults.push(fault)
    return this
  }

  /** All calls so far, those that failed included. */
  get calls(): readonly StoreOperation[] {
    return this.#calls
  }

  /** Planned faults that no call has met: a test that ends with some proved less than it says. */
  get left(): number {
    return [...this.#planned.values()].reduce((sum, faults) => sum + faults.length, 0)
  }

  async run(operation: StoreOperation, call: () => Promise<unknown>): Promise<unknown> {
    this.#calls.push(operation)
    const fault = this.#planned.get(operation)?.shift()
    switch (fault?.kind) {
      case undefined:
        return call()
      case 'delay':
        await new Promise((resolve) => setTimeout(resolve, fault.ms))
        return call()
      case 'pause':
        await fault.until
        return call()
      case 'before':
        throw fault.error ?? unreachable(operation, 'before it was made')
      case 'after':
        await call()
        throw fault.error ?? unreachable(operation, 'after it was made')
    }
  }
}

function unreachable(operation: StoreOperation, when: string): SnapflipError {
  return new SnapflipError('STORE_UNREACHABLE', `${operation} failed ${when}: a fault of the test.`)
}

/** What stands between a caller and a store's calls: a plan of faults, or whatever a test does around them. */
export type Between = Pick<FaultPlan, 'run'>

/** The store, with the plan's faults in between. */
export function faultyStore(store: Store, plan: Between): Store {
  const data = decorate(store.data, 'data', plan)
  return {
    url: store.url,
    data: {
      ...data,
      layout: store.data.layout,
      begin: async (generation) => {
        const writer = (await plan.run('data.begin', () => store.data.begin(generation))) as GenerationWriter
        return { ...decorate(writer, 'writer', plan), generation: writer.generation }
      },
    },
    pointer: { ...decorate(store.pointer, 'pointer', plan), watch: (options) => store.pointer.watch(options) },
    leases: decorate(store.leases, 'leases', plan),
    counters: decorate(store.counters, 'counters', plan),
    check: () => plan.run('store.check', () => store.check()) as Promise<void>,
    freeBytes: () => plan.run('store.freeBytes', () => store.freeBytes()) as Promise<number | null>,
    close: () => store.close(),
  }
}

/** A plain object with every method of the port behind the plan. */
function decorate<Port extends object>(port: Port, name: string, plan: Between): Port {
  const names = Object.getOwnPropertyNames(Object.getPrototypeOf(port)).filter((method) => method !== 'constructor')
  const methods = names.map((method) => {
    const real = port[method as keyof Port] as (...args: unknown[]) => Promise<unknown>
    const behind = (...args: unknown[]) => plan.run(`${name}.${method}` as StoreOperation, () => real.apply(port, args))
    return [method, behind]
  })
  return Object.fromEntries(methods) as Port
}
