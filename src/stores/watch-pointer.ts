import { setTimeout as sleep } from 'node:timers/promises'
import type { PointerRead, PointerStore } from './ports.ts'

/**
 * The polling half of every driver's `watch`: reads at once, then every `pollMs`, sooner when `wake` says so, and calls back
 * when the token is another than before. One read at a time, so that callbacks come in the order of the reads.
 */
export function pollPointer(
  read: () => Promise<PointerRead | null>,
  options: Parameters<PointerStore['watch']>[0],
): { wake: () => void } {
  let nap = new AbortController()
  let wanted = false
  const wake = () => {
    wanted = true
    nap.abort()
  }
  const run = async () => {
    let seen: string | null | undefined
    while (!options.signal.aborted) {
      wanted = false
      try {
        const found = await read()
        if (options.signal.aborted) return
        const token = found?.token ?? null
        if (token !== seen) {
          seen = token
          options.onPointer(found)
        }
      } catch (error) {
        if (!options.signal.aborted) options.onError(error)
      }
      if (wanted || options.signal.aborted) continue
      nap = new AbortController()
      // Aborted naps reject; being woken is what they are for. Unreferenced: a watch alone keeps no process alive.
      await sleep(options.pollMs, undefined, { signal: nap.signal, ref: false }).catch(() => undefined)
    }
  }
  options.signal.addEventListener('abort', () => nap.abort(), { once: true })
  void run()
  return { wake }
}
