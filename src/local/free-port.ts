import { createServer } from 'node:net'

/** A TCP port of 127.0.0.1 that nothing listened on a moment ago. `accept` may refuse ports for reasons of its own. */
export async function freePort(accept: (port: number) => boolean | Promise<boolean> = () => true): Promise<number> {
  // 50 draws: a server that refuses a third of the ports still gets one with near certainty.
  for (let draw = 0; draw < 50; draw++) {
    const port = await listenOnce(0)
    if (port !== undefined && (await accept(port))) return port
  }
  throw new Error('Expected a free port on 127.0.0.1, found none in 50 draws.')
}

/** Whether `port` of 127.0.0.1 can be listened on now. */
export async function isFree(port: number): Promise<boolean> {
  return (await listenOnce(port)) !== undefined
}

function listenOnce(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.unref()
    server.once('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : undefined))
    })
  })
}
