import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { z } from 'zod'
import type { WebhookGate } from '../../schemas/gates.ts'
import { post } from '../observe/post.ts'
import { secretOf } from '../observe/send-alert.ts'
import { signatureOf } from '../observe/signature.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import { BrokenGate, type Found, type VersionSubject } from './user.ts'

const SAMPLE_KEYS = 10
const REASON_CHARS_MAX = 300

const answerSchema = z.object({
  decision: z.enum(['proceed', 'abort', 'wait', 'rollback']),
  reason: z.string().optional(),
})

/**
 * Asks a receiver what to do with the version, by a signed request (docs/gates.md): proceed passes, abort rejects, wait is asked again, rollback
 * rejects and takes the active version back too. It is told counts and hashes, never rows.
 *
 * @param begun when it was asked first: one that is broken in between gets no more time for that.
 */
export async function askWebhook(
  name: string,
  gate: WebhookGate,
  subject: VersionSubject,
  begun = Date.now(),
): Promise<Found> {
  const secret = secretOf(`datasets.${subject.dataset}.gates.user.${name}`, gate.secretEnv)
  const { host } = new URL(gate.url)
  const keys = await sampledKeys(subject)
  for (let asked = 1; ; asked++) {
    const body = JSON.stringify({ gate: name, asked, keys, ...toldOf(subject) })
    const headers = { 'snapflip-delivery': randomUUID(), 'snapflip-signature': signatureOf(secret, body) }
    const { url, allowHosts, timeoutMs } = gate
    const answer = answerOf(host, await post({ url, allowHosts, timeoutMs, body, headers, signal: subject.signal }))
    const { decision } = answer
    const reason = answer.reason === undefined ? '' : ` (${plain(answer.reason)})`
    if (decision !== 'wait')
      return {
        verdict: decision === 'proceed' ? 'pass' : 'reject',
        summary: `${host} says ${decision}${reason}`,
        actual: { decision, asked },
        limit: { decision: 'proceed' },
      }
    if (Date.now() - begun + gate.askAgainMs > gate.giveUpMs)
      throw new BrokenGate(
        `${host} still says wait${reason} after it was asked ${asked} times within ${gate.giveUpMs} ms`,
        { isOutOfTime: true },
      )
    await pause(gate.askAgainMs, undefined, { signal: subject.signal })
  }
}

function toldOf({ dataset, tag, digest, manifest, parent, refreshId, evidence }: VersionSubject) {
  const counts = Object.fromEntries(
    Object.entries(evidence).map(([index, { count, bytes, inserted, updated, deleted }]) => [
      index,
      { count, bytes, inserted, updated, deleted },
    ]),
  )
  return { dataset, version: tag, digest, manifest, parent, refreshId, counts }
}

async function sampledKeys(subject: VersionSubject): Promise<Array<{ index: string; key: string }>> {
  const keys: Array<{ index: string; key: string }> = []
  for await (const batch of subject.changes()) {
    for (const { index, key } of batch.slice(0, SAMPLE_KEYS - keys.length)) keys.push({ index, key: hashedKey(key) })
    if (keys.length >= SAMPLE_KEYS) break
  }
  return keys
}

function answerOf(host: string, text: string): z.infer<typeof answerSchema> {
  try {
    return answerSchema.parse(JSON.parse(text))
  } catch {
    throw new BrokenGate(
      `expected {"decision": "proceed", "abort", "wait" or "rollback", "reason": "…"} from ${host}, found another answer`,
    )
  }
}

/** On one line, and not too long. */
const plain = (text: string) =>
  text
    .replace(/[\p{Cc}\s]+/gu, ' ')
    .trim()
    .slice(0, REASON_CHARS_MAX)
