import { SnapflipError } from '../../src/core/errors.ts'
import type { Store } from '../../src/stores/ports.ts'

/** What the test can do to a store while readers use it. */
export interface Breakable {
  store: Store
  /** Every call fails as unreachable; or those for the pointer alone, or those for data alone. */
  down: boolean | 'pointer' | 'data'
  /** Leases and counters are refused, as by a user that may not write. */
  readOnly: boolean
  /** Pushes are not heard: only polls and reads find a flip. */
  deaf: boolean
  /** Called before each read of the pointer, which waits for it. */
  beforePointer: (() => Promise<void>) | null
  calls: Record<string, number>
}

export function breakable(store: Store): Breakable {
  const state: Breakable = { store, down: false, readOnly: false, deaf: false, beforePointer: null, calls: {} }
  const partOf: Record<string, string> = { pointer: 'pointer', read: 'data', readManifest: 'data' }
  const guarded = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
    state.calls[name] = (state.calls[name] ?? 0) + 1
    if (state.down === true || state.down === partOf[name])
      throw new SnapflipError('STORE_UNREACHABLE', `${store.url} is down, by the test.`)
    return call()
  }
  const { data, pointer, leases, counters } = store
  state.store = {
    url: store.url,
    check: () => store.check(),
    freeBytes: () => store.freeBytes(),
    close: () => store.close(),
    data: {
      layout: data.layout,
      begin: (generation) => data.begin(generation),
      read: (locations) => guarded('read', () => data.read(locations)),
      putManifest: (tag, bytes) => data.putManifest(tag, bytes),
      readManifest: (tag) => guarded('readManifest', () => data.readManifest(tag)),
      listManifests: () => data.listManifests(),
      deleteManifest: (tag) => data.deleteManifest(tag),
      generations: () => data.generations(),
      deleteUnits: (locations) => data.deleteUnits(locations),
      deleteGeneration: (generation) => data.deleteGeneration(generation),
    },
    pointer: {
      read: () =>
        guarded('pointer', async () => {
          await state.beforePointer?.()
          return pointer.read()
        }),
      swap: (token, next) => pointer.swap(token, next),
      isBound: () => pointer.isBound(),
      rebind: (token, next) => pointer.rebind(token, next),
      watch: (options) => {
        if (!state.deaf) pointer.watch(options)
      },
    },
    counters: {
      put: (report) =>
        guarded('counters', async () => {
          if (state.readOnly) throw new SnapflipError('STORE_UNSUITABLE', `${store.url} refuses writes, by the test.`)
          return counters.put(report)
        }),
      list: (watchId) => counters.list(watchId),
      drop: (watchId) => counters.drop(watchId),
      dropExpired: () => counters.dropExpired(),
    },
    leases: {
      put: (lease) =>
        guarded('lease', async () => {
          if (state.readOnly) throw new SnapflipError('STORE_UNSUITABLE', `${store.url} refuses writes, by the test.`)
          return leases.put(lease)
        }),
      drop: (id) => guarded('drop', () => leases.drop(id)),
      list: (begin) => leases.list(begin),
    },
  }
  return state
}
