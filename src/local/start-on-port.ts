import { freePort, isFree } from './free-port.ts'

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
  if (port !== undefined) {
    // Without this look the readiness probe could be answered by whoever holds the port.
    if (!(await isFree(port)))
      throw new Error(
        `Expected port ${port} of 127.0.0.1 to be free, found it in use. Stop what listens there, or choose another port.`,
      )
    return start(port)
  }
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await draw())
    } catch (error) {
      const wasTaken = error instanceof Error && /address already in use|EADDRINUSE|could not bind/i.test(error.message)
      if (!wasTaken || attempt === ATTEMPTS_MAX) throw error
    }
  }
}
