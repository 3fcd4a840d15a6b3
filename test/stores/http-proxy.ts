import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Exchange {
  method: string
  path: string
  headers: IncomingMessage['headers']
  body: Buffer
}
export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  body: Buffer
}
/** Decides what a client gets; `forward` makes the request (signatures cover the host, so it goes on unchanged). */
export type Intercept = (exchange: Exchange, forward: () => Promise<Answer>) => Promise<Answer>

export interface HttpProxy {
  endpoint: string
  intercept: Intercept
  stop(): Promise<void>
}

/** An HTTP server between client and service; with no target it is the service itself. */
export async function startHttpProxy(target: string | null, intercept: Intercept): Promise<HttpProxy> {
  const server = createServer((incoming, outgoing) => {
    void serve(incoming, outgoing).catch(() => outgoing.destroy())
  })
  const serve = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method = '', url: path = '', headers } = incoming
    const exchange = { method, path, headers, body: await bodyOf(incoming) }
    const answer = await proxy.intercept(exchange, () => forwardTo(target ?? '', exchange))
    outgoing.writeHead(answer.status, answer.headers).end(answer.body)
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const proxy: HttpProxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    intercept,
    stop: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
  return proxy
}

function forwardTo(target: string, { method, path, headers, body }: Exchange): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(target + path, { method, headers }, (incoming) => {
      bodyOf(incoming).then(
        (found) => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: found }),
        reject,
      )
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
