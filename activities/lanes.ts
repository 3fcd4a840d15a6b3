/**
 * Works through items in lanes side by side, each item by whichever lane is free, in their order. When a lane fails, the others are told to stop
 * and waited for, and its error is thrown.
 */
export async function inLanes<Item, Lane>(
  items: readonly Item[],
  lanes: readonly (() => Promise<{ lane: Lane; end: () => Promise<unknown> }>)[],
  signal: AbortSignal,
  work: (item: Item, lane: Lane, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const left = items[Symbol.iterator]()
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const failures: unknown[] = []
  await Promise.all(
    lanes.slice(0, items.length).map(async (open) => {
      try {
        const { lane, end } = await open()
        try {
          for (let next = left.next(); !next.done && !either.aborted; next = left.next())
            await work(next.value, lane, either)
        } finally {
          await end()
        }
      } catch (error) {
        // The first one says why; the others end because of it.
        failures.push(error)
        stop.abort(error)
      }
    }),
  )
  if (failures.length > 0) throw failures[0]
  signal.throwIfAborted()
}
