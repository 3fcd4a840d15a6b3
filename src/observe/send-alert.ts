import type { AlertBody, RemoteSink } from '../../schemas/alerts.ts'
import type { WebhookGate } from '../../schemas/gates.ts'
import { SnapflipError } from '../core/errors.ts'
import { allowedUrl, checkedAddresses, type Post, post, type Resolve } from './post.ts'
import { signatureOf } from './signature.ts'

/** Slack cuts a text at 4,000 characters; each that is escaped takes up to five. */
const SUMMARY_CHARS_MAX = 400
const EVIDENCE_CHARS_MAX = 300

/** Sends it once. Signed anew each time: receivers refuse old signatures. @throws SnapflipError as `post` does, CONFIG_INVALID without the secret */
export async function sendAlert(
  name: string,
  sink: RemoteSink,
  alert: AlertBody,
  options: Pick<Post, 'timeoutMs' | 'signal' | 'resolve'>,
): Promise<void> {
  const { allowHosts } = sink
  if (sink.kind === 'slack') {
    const body = JSON.stringify({ text: slackText(alert) })
    await post({ ...options, allowHosts, url: secretOf(`alerts.sinks.${name}`, sink.urlEnv), body })
    return
  }
  const body = JSON.stringify(alert)
  const signature = signatureOf(secretOf(`alerts.sinks.${name}`, sink.secretEnv), body)
  const headers = { 'snapflip-delivery': alert.id, 'snapflip-signature': signature }
  await post({ ...options, allowHosts, url: sink.url, body, headers })
}

/**
 * Looks at a sink, or at the webhook of a gate, without sending anything.
 *
 * @param at its place in the definition.
 * @returns where it sends to.
 * @throws SnapflipError saying what is not well
 */
export async function checkSink(at: string, sink: RemoteSink | WebhookGate, resolve?: Resolve): Promise<string> {
  const secret = secretOf(at, sink.kind === 'slack' ? sink.urlEnv : sink.secretEnv)
  const url = allowedUrl(sink.kind === 'slack' ? secret : sink.url, sink.allowHosts)
  const addresses = await checkedAddresses(url, sink.allowHosts, resolve).catch((error: unknown) => {
    if (error instanceof SnapflipError) throw error
    const found = error instanceof Error ? error.message : String(error)
    throw new SnapflipError(
      'WEBHOOK_FAILED',
      `Expected ${url.hostname} to have an address, found: ${found}. Correct the URL of ${at}, or the name server.`,
      { host: url.hostname },
      error,
    )
  })
  return `${sink.kind} at ${url.host} (${addresses.map(({ address }) => address).join(', ')})`
}

/** @param at what names the variable, in the definition. @throws SnapflipError CONFIG_INVALID */
export function secretOf(at: string, variable: string): string {
  const value = process.env[variable] ?? ''
  if (value !== '') return value
  throw new SnapflipError(
    'CONFIG_INVALID',
    `Expected the environment variable ${variable}, which ${at} names, found no value. Set it where the worker runs, and start that again.`,
    { at, variable },
  )
}

function slackText({ kind, dataset, version, incident, summary, evidence, runbook }: AlertBody): string {
  const lines = [
    `${kind}: ${dataset}${version === null ? '' : ` ${version}`}`,
    cut(summary, SUMMARY_CHARS_MAX),
    `evidence: ${cut(JSON.stringify(evidence), EVIDENCE_CHARS_MAX)}`,
    `runbook: ${runbook}`,
    `incident: ${incident}`,
  ]
  return lines.map(escaped).join('\n')
}

const cut = (text: string, charsMax: number) => (text.length > charsMax ? `${text.slice(0, charsMax)}…` : text)

/** Nothing in it is a link, a mention or an entity of Slack's. */
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
