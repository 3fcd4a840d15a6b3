import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** What becomes of a command: `cut` passes it on and then ends the connection for good, as the death of the client would. */
export type Passage = 'pass' | 'cut'

/** Between a client and a Redis on this machine: is asked for each command, by its name, before it is passed on. */
export async function startRedisProxy(
  port: number,
  ask: (command: string) => Promise<Passage> | Passage,
): Promise<{ port: number; stop(): Promise<void> }> {
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer((client) => {
    if (isCut) return void client.destroy()
    const upstream = connect(port, '127.0.0.1')
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      socket.on('error', () => undefined)
    }
    let buffer = Buffer.alloc(0)
    let working = Promise.resolve()
    const pass = async (bytes: Buffer) => {
      buffer = Buffer.concat([buffer, bytes])
      for (let end = commandEnd(buffer); end !== null && !isCut; end = commandEnd(buffer)) {
        const command = buffer.subarray(0, end)
        buffer = buffer.subarray(end)
        isCut = (await ask(nameOf(command))) === 'cut'
        upstream.write(command)
        if (!isCut) continue
        client.destroy()
        upstream.end()
      }
    }
    client.on('data', (bytes: Buffer) => {
      working = working.then(() => pass(bytes))
    })
    upstream.on('data', (bytes) => client.write(bytes))
    upstream.on('close', () => client.destroy())
    client.on('close', () => isCut || upstream.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      for (const socket of sockets) socket.destroy()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** Where the first command, an array of bulk strings, ends; null when it is not all there yet. */
function commandEnd(bytes: Buffer): number | null {
  let at = 0
  const number = () => {
    const end = bytes.indexOf('\r\n', at)
    if (end === -1) return null
    const value = Number(bytes.toString('latin1', at + 1, end))
    at = end + 2
    return value
  }
  const parts = number()
  for (let n = 0; n < (parts ?? 0); n++) {
    const length = number()
    if (length === null) return null
    at += length + 2
  }
  return parts === null || at > bytes.length ? null : at
}

function nameOf(command: Buffer): string {
  return command.toString('latin1').split('\r\n')[2]?.toLowerCase() ?? ''
}
