import { createHmac } from 'node:crypto'

/** `t=<unix seconds>,v1=<hex HMAC-SHA-256 of "t.body">`: with its time signed too, an old request cannot be sent again as a new one. */
export function signatureOf(secret: string, body: string, at = new Date()): string {
  const seconds = Math.floor(at.getTime() / 1000)
  return `t=${seconds},v1=${createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')}`
}
