import { createServer, type IncomingHttpHeaders, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Received {
  path: string
  headers: IncomingHttpHeaders
  body: string
}

/** What a test answers; without it 200. `answer` may keep the response and never end it. */
type Answer = (response: ServerResponse, nth: number) => void

export interface Receiver {
  /** http or https, at 127.0.0.1. */
  url: string
  port: number
  received: Received[]
  answer: Answer
  stop(): Promise<void>
}

/** A server that takes webhooks, until the test ends. */
export async function startReceiver({
  answer = (response) => response.end('ok'),
  port = 0,
  tls = false,
}: {
  answer?: Answer
  port?: number
  tls?: boolean
} = {}): Promise<Receiver> {
  const received: Received[] = []
  const listener: RequestListener = (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      received.push({ path: request.url ?? '', headers: request.headers, body })
      receiver.answer(response, received.length)
    })
  }
  const server = tls ? createTlsServer({ key: KEY, cert: CERTIFICATE }, listener) : createServer(listener)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  const stop = () =>
    new Promise<void>((resolve) => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  onTestFinished(stop)
  const listening = (server.address() as AddressInfo).port
  const receiver: Receiver = {
    url: `${tls ? 'https' : 'http'}://127.0.0.1:${listening}/`,
    port: listening,
    received,
    answer,
    stop,
  }
  return receiver
}

/** For receiver.test and localhost, trusted by nobody but a test that says so. The key is in this file, and so guards nothing. */
export const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBpDCCAUqgAwIBAgIUGZnWvegy9ncE7L6YZEQ4uJYxfEAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTEzNTE1OVoYDzIxMjYxMDI4
MTM1MTU5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQZEyTOW2/AFzSmn6Gta6zePNjPXeP9W4CRP8eOeZtVN0WY5VbX8bQo
OmcecZyuh027dDAREl7sk2UhZZUawo95o3gwdjAdBgNVHQ4EFgQUgkmZSNzmTwos
9eMTaKr+Ks0knS8wHwYDVR0jBBgwFoAUgkmZSNzmTwos9eMTaKr+Ks0knS8wDwYD
VR0TAQH/BAUwAwEB/zAjBgNVHREEHDAagg1yZWNlaXZlci50ZXN0gglsb2NhbGhv
c3QwCgYIKoZIzj0EAwIDSAAwRQIhAIN8JsjJCiZ4J+j9RT2eL/cGeTun7+TWj1mo
3zMlv1J6AiALUMIoaSqNEIbWEoRgPVasC6AW88hjOAN9JEcp9XlZsw==
-----END CERTIFICATE-----`
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnFy3krVLgoJFSyer
51hZAJI8Tlx4Gk6U7nRpH4PtijuhRANCAAQZEyTOW2/AFzSmn6Gta6zePNjPXeP9
W4CRP8eOeZtVN0WY5VbX8bQoOmcecZyuh027dDAREl7sk2UhZZUawo95
-----END PRIVATE KEY-----`
