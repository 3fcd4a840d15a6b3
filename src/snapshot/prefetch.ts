/** Runs an iterator one step ahead of its consumer, so that the next read is under way while this one is worked on. */
export async function* prefetch<T>(items: AsyncIterator<T>): AsyncGenerator<T> {
  let next = items.next()
  // A rejection is seen when its turn comes; until then it must not count as unhandled.
  next.catch(() => undefined)
  try {
    for (;;) {
      const { value, done } = await next
      if (done) return
      next = items.next()
      next.catch(() => undefined)
      yield value
    }
  } finally {
    await next.catch(() => undefined)
    await items.return?.()
  }
}
