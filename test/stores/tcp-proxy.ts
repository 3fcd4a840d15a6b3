import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export interface TcpProxy {
  port: number
  /** `pass`; `lose-reply`: what the server answers next breaks the connection instead; `silent`: nothing comes back. */
  mode: 'pass' | 'lose-reply' | 'silent'
  /** From here on another server answers, as after a failover: what is open breaks. */
  switchTo(port: number): void
  stop(): Promise<void>
}

/** A network between a client and a server on this machine, with the ways in which networks fail. */
export async function startTcpProxy(port: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>()
  let upstreamPort = port
  const server = createServer((client) => {
    const upstream = connect(upstreamPort, '127.0.0.1')
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      // Broken connections are what this is for.
      socket.on('error', () => undefined)
    }
    client.on('data', (bytes) => upstream.write(bytes))
    upstream.on('data', (bytes) => {
      if (proxy.mode === 'pass') client.write(bytes)
      if (proxy.mode !== 'lose-reply') return
      proxy.mode = 'pass'
      client.destroy()
    })
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy: TcpProxy = {
    port: (server.address() as AddressInfo).port,
    mode: 'pass',
    switchTo: (other) => {
      upstreamPort = other
      for (const socket of sockets) socket.destroy()
    },
    stop: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return proxy
}
