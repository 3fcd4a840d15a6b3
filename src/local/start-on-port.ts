import { freePort } from './free-port.ts'

/** Three: the port is drawn, then bound; between the two another process took it. Twice in a row is already odd. */
const ATTEMPTS_MAX = 3

/**
 * Calls `start` with `port`, or with a free one when none is given; draws again when somebody else bound that
 * port in between.
 */
export async function startOnPort<T>(
  port: number | undefined,
  start: (port: number) => Promise<T>,
  draw: () => Promise<number> = freePort,
): Promise<T> {
  if (port !== undefined) return start(port)
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await draw())
    } catch (error) {
      const wasTaken = error instanceof Error && /address already in use|EADDRINUSE|could not bind/i.test(error.message)
      if (!wasTaken || attempt === ATTEMPTS_MAX) throw error
    }
  }
}
