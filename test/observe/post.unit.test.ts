import tls from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import { isPublicAddress } from '../../schemas/outbound-url.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { type Post, post } from '../../src/observe/post.ts'
import { CERTIFICATE, startReceiver } from './receiver.ts'

const LOCAL = { allowHosts: ['127.0.0.1'], timeoutMs: 10_000, body: '{}' }

async function failureOf(request: Post): Promise<SnapflipError> {
  const failure = await post(request).then(
    () => null,
    (error: unknown) => error,
  )
  expect(failure).toBeInstanceOf(SnapflipError)
  return failure as SnapflipError
}

describe('an address', () => {
  it.each([
    ...[
      '0.0.0.0',
      '0.1.2.3',
      '10.0.0.1',
      '100.64.0.1',
      '127.0.0.1',
      '127.255.255.254',
      '169.254.169.254',
      '172.16.0.1',
    ],
    ...[
      '192.0.0.1',
      '192.0.2.1',
      '192.168.1.1',
      '198.18.0.1',
      '203.0.113.1',
      '224.0.0.1',
      '240.0.0.1',
      '255.255.255.255',
    ],
    ...[
      '::',
      '::1',
      '::127.0.0.1',
      '::ffff:10.0.0.1',
      '::ffff:7f00:1',
      '::ffff:0:127.0.0.1',
      '64:ff9b::7f00:1',
      '100::1',
    ],
    ...[
      '2001::1',
      '2001:db8::1',
      '2002:7f00:1::',
      'fc00::1',
      'fd12::1',
      'fe80::1',
      'fe80::1%eth0',
      'fec0::1',
      'ff02::1',
    ],
    'no address',
  ])('%s is not public', (address) => expect(isPublicAddress(address)).toBe(false))

  it.each(['1.1.1.1', '::ffff:1.1.1.1', '2606:4700::1111'])('%s is public', (address) =>
    expect(isPublicAddress(address)).toBe(true),
  )
})

describe('nothing is sent', () => {
  it.each<[url: string, why: RegExp]>([
    ['no url', /expected a URL/],
    ['ftp://example.com/', /expected an https URL/],
    ['file:///etc/passwd', /expected an https URL/],
    ['http://example.com/', /http only where allowHosts names the host/],
    ['https://ana:geheim@example.com/', /without user and password/],
    ['https://ana:geheim@127.0.0.1/', /without user and password/],
    ...['127.0.0.1', '127.1', '2130706433', '0x7f.1', '0177.0.0.1', '10.0.0.1', '169.254.169.254', '[::1]'].map(
      (host): [string, RegExp] => [`https://${host}/geheim`, /expected a public address/],
    ),
    ['https://[::ffff:127.0.0.1]/', /expected a public address/],
    ['https://[64:ff9b::10.0.0.1]/', /expected a public address/],
  ])('to %s', async (url, why) => {
    const allowHosts = url.includes('ana:') ? ['127.0.0.1'] : []
    const failure = await failureOf({ ...LOCAL, allowHosts, url })
    expect(failure).toMatchObject({ code: 'WEBHOOK_REFUSED', message: expect.stringMatching(why) })
    expect(failure.message).not.toContain('geheim')
  })

  it('to a name that resolves to an address that is not public, as localhost does', async () => {
    const receiver = await startReceiver({ tls: true })
    const url = `https://localhost:${receiver.port}/`
    expect(await failureOf({ ...LOCAL, allowHosts: [], url })).toMatchObject({
      code: 'WEBHOOK_REFUSED',
      message: expect.stringMatching(/^Expected localhost to have public addresses alone, found (127\.0\.0\.1|::1)\./),
    })
    expect(receiver.received).toEqual([])
  })

  it('to a name one of whose addresses is not public', async () => {
    const resolve = async () => [
      { address: '1.1.1.1', family: 4 },
      { address: '10.0.0.1', family: 4 },
    ]
    const failure = await failureOf({ ...LOCAL, url: 'https://receiver.test/', resolve })
    expect(failure).toMatchObject({ code: 'WEBHOOK_REFUSED', details: { address: '10.0.0.1' } })
  })
})

it('what is connected to is what was resolved, once, for the check', async () => {
  const receiver = await startReceiver()
  let asked = 0
  const resolve = async () => {
    asked += 1
    // As a name server that means harm would answer a second question.
    return [{ address: asked === 1 ? '127.0.0.1' : '127.0.0.2', family: 4 }]
  }
  const url = `http://receiver.test:${receiver.port}/hook`
  await post({ ...LOCAL, allowHosts: ['receiver.test'], url, resolve })
  expect(asked).toBe(1)
  expect(receiver.received).toMatchObject([{ path: '/hook', headers: { host: `receiver.test:${receiver.port}` } }])
})

it('a redirect is not followed, and is told as what it is', async () => {
  const inside = await startReceiver()
  const receiver = await startReceiver({
    answer: (response) => response.writeHead(307, { location: `${inside.url}internal` }).end(),
  })
  expect(await failureOf({ ...LOCAL, url: receiver.url })).toMatchObject({
    code: 'WEBHOOK_REFUSED',
    message: expect.stringContaining('found 307, a redirect, which is not followed'),
  })
  expect(inside.received).toEqual([])
})

describe('a receiver that answers', () => {
  it.each([
    [200, null],
    [204, null],
    [400, 'WEBHOOK_REFUSED'],
    [401, 'WEBHOOK_REFUSED'],
    [404, 'WEBHOOK_REFUSED'],
    [429, 'WEBHOOK_FAILED'],
    [500, 'WEBHOOK_FAILED'],
    [503, 'WEBHOOK_FAILED'],
  ])('%i: %s', async (status, code) => {
    const receiver = await startReceiver({ answer: (response) => response.writeHead(status).end() })
    const request = { ...LOCAL, url: `${receiver.url}geheim` }
    if (code === null) return expect(await post(request)).toBe('')
    const failure = await failureOf(request)
    expect(failure).toMatchObject({ code, retryable: code === 'WEBHOOK_FAILED' })
    expect(failure.message).not.toContain('geheim')
  })

  it('without an end is read to the limit', async () => {
    const receiver = await startReceiver({
      answer: (response) => {
        const more = () => {
          while (response.write('x'.repeat(16 << 10)));
        }
        response.on('drain', more)
        more()
      },
    })
    expect(await post({ ...LOCAL, url: receiver.url })).toBe('x'.repeat(64 << 10))
  })
})

describe('after the time limit nothing is waited for', () => {
  const LATE = { code: 'WEBHOOK_FAILED', message: expect.stringContaining('found none within 100 ms') }

  it('where the receiver does not answer', async () => {
    const receiver = await startReceiver({ answer: () => undefined })
    expect(await failureOf({ ...LOCAL, timeoutMs: 100, url: receiver.url })).toMatchObject(LATE)
  })

  it('where the answer never ends', async () => {
    const receiver = await startReceiver({
      answer: (response) => {
        const drip = setInterval(() => response.write('x'), 5)
        response.on('close', () => clearInterval(drip))
      },
    })
    expect(await failureOf({ ...LOCAL, timeoutMs: 100, url: receiver.url })).toMatchObject(LATE)
  })

  it('where the name is not resolved', async () => {
    const resolve = () => new Promise<never>(() => undefined)
    expect(await failureOf({ ...LOCAL, timeoutMs: 100, url: 'https://receiver.test/', resolve })).toMatchObject(LATE)
  })
})

it('a receiver that is not there is tried again', async () => {
  const receiver = await startReceiver()
  await receiver.stop()
  expect(await failureOf({ ...LOCAL, url: receiver.url })).toMatchObject({ code: 'WEBHOOK_FAILED', retryable: true })
})

describe('over https', () => {
  const resolve = async () => [{ address: '127.0.0.1', family: 4 }]
  const sent = (port: number) => ({
    ...LOCAL,
    url: `https://receiver.test:${port}/`,
    allowHosts: ['receiver.test'],
    resolve,
  })

  it('a certificate that nobody vouches for is refused', async () => {
    const receiver = await startReceiver({ tls: true })
    expect(await failureOf(sent(receiver.port))).toMatchObject({ code: 'WEBHOOK_FAILED' })
    expect(receiver.received).toEqual([])
  })

  it('a trusted one must be for the name in the URL, whatever the address', async () => {
    const trusted = tls.getCACertificates('default')
    tls.setDefaultCACertificates([...trusted, CERTIFICATE])
    onTestFinished(() => tls.setDefaultCACertificates(trusted))
    const receiver = await startReceiver({ tls: true })
    await post(sent(receiver.port))
    expect(receiver.received).toHaveLength(1)
    const other = { ...sent(receiver.port), url: `https://other.test:${receiver.port}/`, allowHosts: ['other.test'] }
    expect((await failureOf(other)).message).toContain('other.test')
    expect(receiver.received).toHaveLength(1)
  })
})
