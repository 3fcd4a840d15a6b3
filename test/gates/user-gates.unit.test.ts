import { describe, expect, it, onTestFinished } from 'vitest'
import { gatesSchema, type UserGate } from '../../schemas/gates.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { BrokenGate, type Found, judgeByUser } from '../../src/gates/user.ts'
import {
  askFunction,
  type FunctionAnswer,
  type FunctionSubject,
  type GateFunction,
} from '../../src/gates/user-function.ts'
import { askWebhook } from '../../src/gates/user-webhook.ts'
import { signatureOf } from '../../src/observe/signature.ts'
import { hashedKey } from '../../src/snapshot/hashed-key.ts'
import { startReceiver } from '../observe/receiver.ts'
import { change, subjectOf } from './version-subject.ts'

const gateOf = <K extends UserGate['kind']>(gate: Record<string, unknown> & { kind: K }) =>
  gatesSchema.parse({ user: { desk: gate } }).user?.desk as Extract<UserGate, { kind: K }>

const CHANGES = [
  change('products', '7', { price: 70 }, { price: 0 }),
  change('products', '8', { price: 80 }, undefined),
  change('byPrice', '70\0sku-7', undefined, 7),
]
const passed: Found = { verdict: 'pass', summary: 'well', actual: {} }

describe('a gate that is broken', () => {
  const gate = gateOf({ kind: 'sql', sql: 'select 1', broken: 'reject' })
  const asked = async (failures: readonly unknown[], signal?: AbortSignal) => {
    let times = 0
    const result = await judgeByUser(
      'desk',
      gate,
      subjectOf([], signal && { signal }),
      async () => {
        if (times < failures.length) throw failures[times++]
        return passed
      },
      1,
    )
    return { times, result }
  }
  const timeOut = new SnapflipError('WEBHOOK_FAILED', 'no answer')

  it('is asked again, and gives what it declares when that does not help: never a pass', async () => {
    expect(await asked([timeOut, timeOut])).toMatchObject({ times: 2, result: { verdict: 'pass' } })
    expect(await asked([timeOut, timeOut, timeOut, timeOut])).toMatchObject({
      times: 3,
      result: {
        gate: 'user:desk',
        verdict: 'reject',
        summary: 'broken, so it does not pass: no answer',
        actual: { broken: 'no answer' },
      },
    })
  })

  it('is not asked again where that cannot help', async () => {
    expect(await asked([new SnapflipError('WEBHOOK_REFUSED', 'a redirect')])).toMatchObject({
      times: 1,
      result: { verdict: 'reject' },
    })
  })

  it('is not asked again when its time is over: it takes no longer than is declared', async () => {
    expect(await asked([new BrokenGate('slow', { isOutOfTime: true })])).toMatchObject({
      times: 1,
      result: { verdict: 'reject' },
    })
  })

  it('is told from what is not its fault: the store, the database, a cancellation', async () => {
    for (const code of ['STORE_UNREACHABLE', 'POSTGRES_UNREACHABLE', 'CORRUPT'] as const)
      await expect(asked([new SnapflipError(code, 'x')])).rejects.toMatchObject({ code })
    await expect(asked([new TypeError('a slip of ours')])).rejects.toThrow(TypeError)
    await expect(asked([timeOut], AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' })
  })
})

describe('a function', () => {
  const gate = gateOf({ kind: 'function', function: { sha256: 'ab'.repeat(32) }, timeoutMs: 100 })
  const asked = (judge: GateFunction) => askFunction(gate, subjectOf(CHANGES), judge)

  it('is given every change with its values, the counts and the parent', async () => {
    const seen: unknown[] = []
    let given: Omit<FunctionSubject, 'changes' | 'signal'> | undefined
    const answer: FunctionAnswer = {
      verdict: 'warn',
      summary: 'look',
      keys: [{ index: 'byPrice', key: ['70', 'sku-7'] }],
    }
    const found = await asked(async ({ changes, signal: _, ...rest }) => {
      given = rest
      for await (const each of changes()) seen.push(each)
      return answer
    })
    expect(seen).toEqual([
      { index: 'products', key: '7', before: { price: 70 }, after: { price: 0 } },
      { index: 'products', key: '8', before: { price: 80 }, after: null },
      { index: 'byPrice', key: ['70', 'sku-7'], before: null, after: 7 },
    ])
    expect(given).toMatchObject({
      dataset: 'shop',
      version: 'v20260518-02',
      parent: 'v20260518-01',
      counts: { products: { updated: 3 } },
    })
    expect(found).toMatchObject({ verdict: 'warn', summary: 'look', sampleKeys: [hashedKey('70\0sku-7')] })
  })

  it.each<[what: string, judge: () => unknown, why: string]>([
    [
      'throws',
      () => {
        throw new RangeError('price 0')
      },
      'it threw RangeError',
    ],
    ['gives no verdict', () => ({ verdict: 'fine', summary: 'x' }), 'expected { verdict'],
    ['gives nothing', () => undefined, 'expected { verdict'],
    ['does not end', () => new Promise(() => undefined), 'it took longer than 100 ms'],
  ])('that %s is broken, and what it threw is not told', async (what, judge, why) => {
    const error = await asked(judge as GateFunction).catch((found: Error) => found)
    expect(error).toMatchObject({ name: 'BrokenGate', message: expect.stringContaining(why) })
    expect(error).toMatchObject({ isOutOfTime: what === 'does not end' })
    expect((error as Error).message).not.toContain('price 0')
  })

  it('is not waited for in a refresh that was cancelled before it was asked', async () => {
    const day = { ...gate, timeoutMs: 86_400_000 }
    const never = () => new Promise<never>(() => undefined)
    const cancelled = subjectOf(CHANGES, { signal: AbortSignal.abort() })
    await expect(askFunction(day, cancelled, never)).rejects.toMatchObject({ name: 'BrokenGate' })
  })
})

describe('a webhook', () => {
  async function asked(answers: readonly unknown[]) {
    process.env.GATE_SECRET = 'a secret'
    onTestFinished(() => void delete process.env.GATE_SECRET)
    const receiver = await startReceiver({
      answer: (response, nth) => {
        const answer = answers[Math.min(nth, answers.length) - 1]
        if (answer === 'hang') return
        if (answer === 'redirect') response.writeHead(302, { location: receiver.url })
        response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
      },
    })
    const gate = gateOf({
      kind: 'webhook',
      url: receiver.url,
      secretEnv: 'GATE_SECRET',
      allowHosts: ['127.0.0.1'],
      timeoutMs: 300,
      askAgainMs: 100,
      giveUpMs: 250,
    })
    return { receiver, gate, found: askWebhook('desk', gate, subjectOf(CHANGES)) }
  }

  it('is told counts and hashes, signed, and asked again while it says wait', async () => {
    const { receiver, found } = await asked([
      { decision: 'wait', reason: 'at lunch' },
      { decision: 'proceed', reason: 'all\nwell' },
    ])
    expect(await found).toMatchObject({
      verdict: 'pass',
      summary: expect.stringMatching(/^127\.0\.0\.1:\d+ says proceed \(all well\)$/),
      actual: { decision: 'proceed', asked: 2 },
    })
    expect(receiver.received).toHaveLength(2)
    for (const { headers, body } of receiver.received) {
      const [, t] = /^t=(\d+),/.exec(String(headers['snapflip-signature'])) ?? []
      expect(headers['snapflip-signature']).toBe(signatureOf('a secret', body, new Date(Number(t) * 1000)))
      expect(body).not.toContain('70')
    }
    expect(JSON.parse(receiver.received[1]?.body ?? '')).toMatchObject({
      gate: 'desk',
      asked: 2,
      dataset: 'shop',
      version: 'v20260518-02',
      digest: 'ab'.repeat(32),
      parent: 'v20260518-01',
      counts: { products: { count: 300, updated: 3 } },
      keys: [
        { index: 'products', key: hashedKey('7') },
        { index: 'products', key: hashedKey('8') },
        { index: 'byPrice', key: hashedKey('70\0sku-7') },
      ],
    })
  })

  it.each([
    ['abort', 'reject'],
    ['rollback', 'reject'],
  ])('that says %s rejects', async (decision, verdict) => {
    const { found } = await asked([{ decision }])
    expect(await found).toMatchObject({ verdict, actual: { decision, asked: 1 } })
  })

  it.each([
    ['hangs', 'hang', { code: 'WEBHOOK_FAILED', message: expect.stringContaining('none within 300 ms') }],
    [
      'redirects',
      'redirect',
      { code: 'WEBHOOK_REFUSED', message: expect.stringContaining('a redirect, which is not followed') },
    ],
    [
      'answers no JSON',
      'yes',
      { name: 'BrokenGate', message: expect.stringContaining('found another answer'), isOutOfTime: false },
    ],
    ['answers no decision', { decision: 'maybe' }, { name: 'BrokenGate' }],
    [
      'says wait for ever',
      { decision: 'wait' },
      {
        name: 'BrokenGate',
        message: expect.stringMatching(/still says wait after it was asked \d times within 250 ms/),
        isOutOfTime: true,
      },
    ],
  ])('that %s is broken', async (_what, answer, error) => {
    await expect((await asked([answer])).found).rejects.toMatchObject(error)
  })

  it('that says wait is given no more time because it was broken in between', async () => {
    const { receiver, gate } = await asked([{ decision: 'wait' }])
    const late = askWebhook('desk', gate, subjectOf([]), Date.now() - gate.giveUpMs)
    await expect(late).rejects.toMatchObject({ message: expect.stringContaining('asked 1 times'), isOutOfTime: true })
    expect(receiver.received.length).toBeGreaterThan(0)
  })

  it('without its secret is broken, and nothing is sent', async () => {
    const { receiver, gate, found } = await asked([{ decision: 'proceed' }])
    await found
    delete process.env.GATE_SECRET
    await expect(askWebhook('desk', gate, subjectOf([]))).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    expect(receiver.received).toHaveLength(1)
  })
})
