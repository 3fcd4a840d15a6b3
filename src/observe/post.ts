import { promises as dns, type LookupAddress } from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { isPublicAddress, urlProblem } from '../../schemas/outbound-url.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'

/** Of an answer; what comes after is not read. */
const ANSWER_BYTES_MAX = 64 << 10

/** All addresses of a name. */
export type Resolve = (hostname: string) => Promise<LookupAddress[]>
const systemResolve: Resolve = (hostname) => dns.lookup(hostname, { all: true })

export interface Post {
  url: string
  body: string
  headers?: Record<string, string>
  /** Hosts to which http and addresses that are not public are allowed. */
  allowHosts: readonly string[]
  /** For all of it: resolving, connecting, answering. */
  timeoutMs: number
  signal?: AbortSignal
  resolve?: Resolve
}

/**
 * Posts JSON to where the definition says and nowhere else: no redirect is followed, and the address that is connected to is the one that was
 * checked, since the name is resolved here, once. Errors name the host alone: paths of such URLs are often secrets.
 *
 * @returns the text of a 2xx answer, cut off at 64 KiB.
 * @throws SnapflipError WEBHOOK_FAILED when it may work later (no answer in time, 429, 5xx), WEBHOOK_REFUSED when it will not.
 */
export async function post(request: Post): Promise<string> {
  const url = allowedUrl(request.url, request.allowHosts)
  const timeout = AbortSignal.timeout(request.timeoutMs)
  const signal = request.signal === undefined ? timeout : AbortSignal.any([timeout, request.signal])
  try {
    const answer = await send(url, request, signal)
    const text = await textOf(answer)
    requireSuccess(url, answer.statusCode ?? 0)
    return text
  } catch (error) {
    if (isSnapflipError(error)) throw error
    const found = timeout.aborted ? `none within ${request.timeoutMs} ms` : messageOf(error)
    throw failed(url, `Expected an answer from ${url.host}, found ${found}. It is tried again.`, error)
  }
}

/** The addresses that may be connected to. @throws SnapflipError WEBHOOK_REFUSED when one of them is not public, unless the host is allowed. */
export async function checkedAddresses(
  { hostname }: URL,
  allowHosts: readonly string[],
  resolve: Resolve = systemResolve,
): Promise<LookupAddress[]> {
  const addresses = await resolve(hostname.replace(/^\[(.*)\]$/, '$1'))
  const wrong = allowHosts.includes(hostname) ? undefined : addresses.find(({ address }) => !isPublicAddress(address))
  if (wrong === undefined) return addresses
  throw new SnapflipError(
    'WEBHOOK_REFUSED',
    `Expected ${hostname} to have public addresses alone, found ${wrong.address}. Correct the URL, or name the host in allowHosts if it is meant.`,
    { host: hostname, address: wrong.address },
  )
}

/** @throws SnapflipError WEBHOOK_REFUSED */
export function allowedUrl(text: string, allowHosts: readonly string[]): URL {
  const problem = urlProblem(text, allowHosts)
  if (problem === null) return new URL(text)
  const found = URL.canParse(text) ? `one of ${new URL(text).protocol}//${new URL(text).hostname}` : 'another text'
  throw new SnapflipError('WEBHOOK_REFUSED', `For a webhook: ${problem}, found ${found}. Correct it in the definition.`)
}

function send(url: URL, { body, headers, allowHosts, resolve }: Post, signal: AbortSignal) {
  const lookup: LookupFunction = (_hostname, options, callback) => {
    checkedAddresses(url, allowHosts, resolve).then(
      (addresses) => {
        const [first] = addresses
        if (options.all) callback(null, addresses)
        else callback(null, first?.address ?? '', first?.family)
      },
      (error: Error) => callback(error, ''),
    )
  }
  return new Promise<http.IncomingMessage>((answered, fail) => {
    const { request } = url.protocol === 'https:' ? https : http
    request(url, {
      method: 'POST',
      headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      // A connection of its own: one that was made under other rules is not used again.
      agent: false,
      lookup,
      signal,
    })
      .on('response', answered)
      .on('error', fail)
      .end(body)
  })
}

async function textOf(answer: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= ANSWER_BYTES_MAX) break
  }
  return Buffer.concat(chunks).toString('utf8', 0, ANSWER_BYTES_MAX)
}

function requireSuccess(url: URL, status: number): void {
  if (status >= 200 && status < 300) return
  if (status === 429 || status >= 500)
    throw failed(url, `Expected ${url.host} to take it, found ${status}. It is tried again.`)
  const why = status >= 300 && status < 400 ? `${status}, a redirect, which is not followed` : String(status)
  throw new SnapflipError(
    'WEBHOOK_REFUSED',
    `Expected ${url.host} to take it, found ${why}. Correct its URL or its secret, or what the receiver accepts.`,
    { host: url.host, status },
  )
}

function failed(url: URL, message: string, cause?: unknown): SnapflipError {
  return new SnapflipError('WEBHOOK_FAILED', message, { host: url.host }, cause)
}

/** Node puts the addresses it tried into an AggregateError without a message of its own. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}
