import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { freePort } from '../../src/local/free-port.ts'
import { type LocalRedis, startRedis } from '../../src/local/redis.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { type TestFolder, testFolder } from '../support/services.ts'
import { type Certificate, makeCertificate } from './certificates.ts'
import { flipFrom, newGeneration } from './versions.ts'

let folder: TestFolder
let right: Certificate
let wrong: Certificate
let redis: LocalRedis
let tlsPort: number
beforeAll(async () => {
  folder = await testFolder()
  right = await makeCertificate(folder.path, 'right')
  wrong = await makeCertificate(folder.path, 'wrong')
  tlsPort = await freePort()
  redis = await startRedis({
    settings: {
      'tls-port': String(tlsPort),
      'tls-cert-file': right.cert,
      'tls-key-file': right.key,
      'tls-auth-clients': 'no',
    },
  })
})
afterAll(() => redis?.stop())

const stops: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
const open = async (url: string): Promise<Store> => {
  const store = await openStore(url, { dataset: 'shop' })
  stops.push(() => store.close())
  return store
}

it('a Redis behind TLS is written, read, flipped and watched with the authority of its URL', async () => {
  const store = await open(`rediss://127.0.0.1:${tlsPort}?tlsCa=${right.cert}&tlsServername=localhost`)
  await store.check()
  const writer = await store.data.begin(newGeneration())
  const objects = [Buffer.from('one'), Buffer.alloc(1 << 20, 2)]
  const locations = await writer.put(objects)
  await writer.finish()
  expect(await store.data.read(locations)).toEqual(objects)
  const seen: unknown[] = []
  const stop = new AbortController()
  stops.push(async () => stop.abort())
  // Polling alone would be too slow: the subscription has to be there.
  const onPointer = (read: { pointer: { flipId: string | null } } | null) => seen.push(read?.pointer.flipId)
  store.pointer.watch({
    pollMs: 600_000,
    signal: stop.signal,
    onPointer,
    onError: (error) => expect(error).toBeUndefined(),
  })
  await vi.waitFor(() => expect(seen).toHaveLength(1))
  await vi.waitFor(async () => {
    const read = await store.pointer.read()
    const epoch = (read?.pointer.epoch.registry ?? 0) + 1
    await changePointer(store.pointer, flipFrom(read?.pointer ?? null, epoch, `flip-${epoch}`), { dataset: 'shop' })
    expect(seen.at(-1)).toMatch(/^flip-/)
  })
})

it.each([
  ['of an authority that it does not give', (): string => `rediss://127.0.0.1:${tlsPort}`],
  ['of another authority than it gives', () => `rediss://127.0.0.1:${tlsPort}?tlsCa=${wrong.cert}`],
  ['of another name', () => `rediss://127.0.0.1:${tlsPort}?tlsCa=${right.cert}&tlsServername=elsewhere`],
])('a URL whose Redis has a certificate %s is told so', async (_title, url) => {
  const store = await open(url())
  for (const call of [() => store.check(), () => store.pointer.read()]) {
    await expect(call()).rejects.toMatchObject({
      code: 'STORE_UNSUITABLE',
      message: expect.stringMatching(/certificate|altnames/i),
    })
    await expect(call()).rejects.toMatchObject({ message: expect.stringMatching(/expected .* tlsCa/) })
  }
})

it('a URL with TLS to a Redis without is told so, and one without to a port with TLS', async () => {
  const plain = await open(`rediss://127.0.0.1:${redis.port}?tlsCa=${right.cert}&connectTimeoutMs=300`)
  await expect(plain.check()).rejects.toMatchObject({ message: expect.stringContaining('speaks TLS on this port') })
  const secure = await open(`redis://127.0.0.1:${tlsPort}`)
  await expect(secure.check()).rejects.toMatchObject({ message: expect.stringContaining('without TLS (rediss:') })
})
