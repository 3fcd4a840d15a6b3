import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SnapflipError } from '../core/errors.ts'

/** Where metrics are served. */
export interface MetricsAddress {
  host: string
  port: number
}

export interface MetricsServer {
  url: string
  close(): Promise<void>
}

export interface Served {
  contentType: string
  /** The text of a scrape. Never throws, and takes no longer than a scrape may. */
  metrics(): Promise<string>
  isHealthy(): boolean
}

/** On this machine alone: what is measured is nobody else's business until somebody says so. */
const HOST = '127.0.0.1'

/** `9464`, or `0.0.0.0:9464` to be reached from elsewhere; port 0 takes a free one. @throws SnapflipError USAGE */
export function parseMetricsAddress(text: string): MetricsAddress {
  const [, host = HOST, digits = ''] = /^(?:(\[[0-9a-f:]+\]|[^:\s]+):)?(\d{1,5})$/i.exec(text) ?? []
  const port = Number(digits)
  if (digits !== '' && port <= 65_535) return { host: host.replace(/^\[(.*)\]$/, '$1'), port }
  throw new SnapflipError(
    'USAGE',
    `Expected --metrics to be a port, or host:port, such as 9464 or 0.0.0.0:9464; found ${JSON.stringify(text)}.`,
    { metrics: text },
  )
}

/** Serves /metrics and /healthz. @throws SnapflipError USAGE where the address cannot be had */
export async function serveMetrics({ host, port }: MetricsAddress, served: Served): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    answer(request, response, served).catch(() => response.destroy())
  })
  await listening(server, { host, port })
  // A process that should end does not wait for a scraper that keeps its connection.
  server.unref()
  const { address, family, port: bound } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}/metrics`,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed())
        server.closeAllConnections()
      }),
  }
}

async function listening(server: Server, address: MetricsAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve).once('error', reject).listen(address)
  }).catch((error: NodeJS.ErrnoException) => {
    throw new SnapflipError(
      'USAGE',
      `Expected to serve metrics at ${address.host}:${address.port}, found ${error.code}: ${WHY[error.code ?? ''] ?? error.message}. Name another with --metrics.`,
      { ...address, found: error.code ?? null },
      error,
    )
  })
}

const WHY: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there',
  EACCES: 'this user may not listen there',
  EADDRNOTAVAIL: 'this machine does not have the address',
  ENOTFOUND: 'the host has no address',
}

async function answer(request: IncomingMessage, response: ServerResponse, served: Served): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  if (!isRead) return end(response, 405, 'Expected GET.\n')
  if (pathname === '/metrics') return end(response, 200, await served.metrics(), served.contentType)
  if (pathname !== '/healthz') return end(response, 404, 'Expected /metrics or /healthz.\n')
  return served.isHealthy() ? end(response, 200, 'polls\n') : end(response, 503, 'does not poll\n')
}

function end(response: ServerResponse, status: number, text: string, contentType = 'text/plain; charset=utf-8'): void {
  response.writeHead(status, { 'content-type': contentType }).end(text)
}
