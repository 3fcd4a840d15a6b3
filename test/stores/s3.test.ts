import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { whileLeased } from '../../activities/while-leased.ts'
import type { Location } from '../../schemas/manifest.ts'
import { startS3 } from '../../src/local/s3.ts'
import { isBuilding } from '../../src/stores/build-leases.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { parseS3Url, S3Bucket } from '../../src/stores/s3/bucket.ts'
import { LEASE_TTL_MAX_MS } from '../../src/stores/unreadable-lease.ts'
import { type TestBucket, testBucket, testFolder } from '../support/services.ts'
import { storeContract } from './contract.ts'
import { type Exchange, type HttpProxy, type Intercept, startHttpProxy } from './http-proxy.ts'
import { report } from './reports.ts'
import { flipFrom, newGeneration, tagOf } from './versions.ts'

let bucket: TestBucket
beforeAll(async () => {
  bucket = await testBucket()
})

describe('S3 store', () => {
  storeContract((dataset) => openStore(bucket.url, { dataset }))

  it('ends no lease early, though its clock tells whole seconds', async () => {
    const store = await openStore(bucket.url, { dataset: 'grain' })
    // At the end of a second: taken by whole seconds alone, the lease would end 0.4 s early.
    await vi.waitFor(() => expect(Date.now() % 1000).toBeGreaterThan(880), { timeout: 2000, interval: 20 })
    const from = Date.now()
    await store.leases.put({ id: 'short', tag: tagOf(1), kind: 'reader', ttlMs: 1500 })
    await vi.waitFor(async () => expect(await store.leases.list()).toEqual([]), { timeout: 10_000, interval: 50 })
    expect(Date.now() - from).toBeGreaterThanOrEqual(1500)
    await store.close()
  })
})

it('an S3 store removes what readers counted once it is old', async () => {
  const store = await openStore(bucket.url, { dataset: 'counted' })
  await store.counters.put(report({}))
  await store.counters.dropExpired()
  expect(await store.counters.list('flip-1')).toEqual([report({})])
  const dropped = async () => {
    await store.counters.dropExpired(0)
    expect(await store.counters.list('flip-1')).toEqual([])
  }
  await vi.waitFor(dropped, { timeout: 10_000, interval: 100 })
  await store.close()
})

it('an S3 service that restarts under a build and a flip leaves nothing half-done', async () => {
  const { path: dataDir } = await testFolder()
  const keys = {
    accessKeyId: process.env.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY ?? '',
  }
  const first = await startS3({ dataDir, ...keys })
  const store = await openStore(first.urlOf('restarted'), { dataset: 'shop', commandTimeoutMs: 3000 })
  await store.check()
  const writer = await store.data.begin(newGeneration())
  const [early] = await writer.put([Buffer.from('early')])
  await first.stop()
  const build = async () => {
    await writer.put([Buffer.alloc(17 << 20, 1)])
    await writer.finish()
  }
  await expect(build()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  const flip = () => changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'shop' })
  await expect(flip()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
  const second = await startS3({ dataDir, port: first.port, ...keys })
  try {
    expect(await store.pointer.read()).toBeNull()
    expect((await flip()).outcome).toBe('applied')
    await store.data.deleteGeneration(writer.generation)
    expect(await store.data.generations()).toEqual([])
    expect(await store.data.read([early as Location])).toEqual([null])
    const again = await store.data.begin(newGeneration())
    const locations = await again.put([Buffer.from('again')])
    await again.finish()
    expect(await store.data.read(locations)).toEqual([Buffer.from('again')])
  } finally {
    await store.close()
    await second.stop()
  }
})

describe('S3 store behind a network', () => {
  const stops: Array<() => Promise<unknown>> = []
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  })
  const start = async (target: string | null, intercept: Intercept): Promise<HttpProxy> => {
    const proxy = await startHttpProxy(target, intercept)
    stops.push(() => proxy.stop())
    return proxy
  }
  const open = async (endpoint: string, dataset: string): Promise<Store> => {
    const url = `s3://${bucket.bucket}/${bucket.prefix}?region=${bucket.region}&endpoint=${endpoint}&forcePathStyle=true`
    const store = await openStore(url, { dataset, commandTimeoutMs: 3000 })
    stops.push(() => store.close())
    return store
  }
  const isPut = ({ method, path }: Exchange, name: string) => method === 'PUT' && path.includes(name)

  it('that sends each write twice takes the 412 of the second for its own success', async () => {
    const doubled = vi.fn()
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      const answer = await forward()
      if (exchange.method !== 'PUT') return answer
      doubled()
      return forward()
    })
    const store = await open(proxy.endpoint, 'doubled')
    for (const [n, flipId] of ['flip-1', 'flip-2'].entries()) {
      const now = await store.pointer.read()
      const flipped = await changePointer(store.pointer, flipFrom(now?.pointer ?? null, n + 1, flipId), {
        dataset: 'doubled',
      })
      expect([flipped.outcome, flipped.pointer.flipId]).toEqual(['applied', flipId])
    }
    expect(await store.data.putManifest(tagOf(1), Buffer.from('manifest'))).toBe('same')
    await expect(store.data.putManifest(tagOf(1), Buffer.from('other'))).rejects.toMatchObject({ code: 'CONFLICT' })
    const writer = await store.data.begin(newGeneration())
    const locations = await writer.put([Buffer.from('block')])
    await writer.finish()
    expect(await store.data.read(locations)).toEqual([Buffer.from('block')])
    expect(doubled.mock.calls.length).toBeGreaterThanOrEqual(6)
  })

  it('takes what is no lease for one of any version, until no lease of its age would last, and removes it then', async () => {
    let isOld = false
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      const answer = await forward()
      if (!isOld || !exchange.path.includes('list-type=2')) return answer
      const longAgo = new Date(Date.now() - LEASE_TTL_MAX_MS - 120_000).toISOString()
      const body = answer.body.toString().replace(/<LastModified>[^<]*/g, `<LastModified>${longAgo}`)
      const { 'content-length': _, ...headers } = answer.headers
      return { ...answer, headers, body: Buffer.from(body) }
    })
    const store = await open(proxy.endpoint, 'strange')
    const client = new S3Client({ endpoint: bucket.endpoint, region: bucket.region, forcePathStyle: true })
    stops.push(async () => client.destroy())
    const folder = `${bucket.prefix}/strange`
    // A folder of a console, a write that broke off, a stranger's files.
    for (const name of [
      'leases/',
      'leases/cut',
      'manifests/',
      'manifests/README',
      'gens/',
      'gens/README',
      'gens/x/y',
    ]) {
      const Body = name.endsWith('/') ? '' : '{"id": "cut", "ta'
      await client.send(new PutObjectCommand({ Bucket: bucket.bucket, Key: `${folder}/${name}`, Body }))
    }
    expect(await store.leases.list()).toMatchObject([{ id: 'leases/cut', tag: null }])
    isOld = true
    expect(await store.leases.list()).toEqual([])
    isOld = false
    expect(await store.leases.list()).toEqual([])
    expect(await store.data.listManifests()).toEqual([])
    expect(await store.data.generations()).toEqual([])
  })

  it('readers that look whether a build runs do not read each other’s leases', async () => {
    const asked: string[] = []
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      asked.push(exchange.method)
      return forward()
    })
    const store = await open(proxy.endpoint, 'looked-at')
    for (let reader = 0; reader < 10; reader++)
      await store.leases.put({ id: `reader-${reader}`, tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
    asked.length = 0
    expect(await isBuilding(store)).toBe(false)
    expect(asked).toEqual(['GET'])
    await whileLeased(store, { by: 'a-refresh', tag: tagOf(1) }, async () => {
      asked.length = 0
      expect(await isBuilding(store)).toBe(true)
      expect(asked).toEqual(['GET', 'GET'])
    })
    expect(await isBuilding(store)).toBe(false)
  })

  it('that is checked by a process which dies leaves its probe to a later check', async () => {
    let isCut = true
    let longAgo: string | null = null
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      if (isCut && exchange.method === 'DELETE') throw new Error('It died.')
      const answer = await forward()
      if (longAgo === null || !exchange.path.includes('list-type=2')) return answer
      const body = answer.body.toString().replace(/<LastModified>[^<]*/g, `<LastModified>${longAgo}`)
      const { 'content-length': _, ...headers } = answer.headers
      return { ...answer, headers, body: Buffer.from(body) }
    })
    const store = await open(proxy.endpoint, 'probed')
    const s3 = new S3Bucket(parseS3Url(bucket.url, {}), 'probed')
    stops.push(async () => s3.close())
    await expect(store.check()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' })
    isCut = false
    await store.check()
    // It may be one that another check is using just now.
    expect((await s3.list('')).objects).toHaveLength(1)
    longAgo = new Date(Date.now() - 2 * 3_600_000).toISOString()
    await store.check()
    expect((await s3.list('')).objects).toEqual([])
  })

  it('that loses the reply to a flip finds it made, and sends it once', async () => {
    let writes = 0
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      const answer = await forward()
      if (!isPut(exchange, 'pointer.json')) return answer
      writes++
      throw new Error('The reply is lost.')
    })
    const store = await open(proxy.endpoint, 'lost')
    const flipped = await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset: 'lost' })
    expect([flipped.outcome, flipped.pointer.flipId, writes]).toEqual(['already', 'flip-1', 1])
  })

  it.each([
    ['was made', true, 1],
    ['was not made', false, 2],
  ])('whose 409 hides that a flip %s is settled by reading', async (_title, isMade, expected) => {
    let writes = 0
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      if (!isPut(exchange, 'pointer.json') || writes++ > 0) return forward()
      if (isMade) await forward()
      const body = '<Error><Code>ConditionalRequestConflict</Code><Message>Conflict</Message></Error>'
      return { status: 409, headers: { 'content-type': 'application/xml' }, body: Buffer.from(body) }
    })
    const dataset = isMade ? 'made' : 'unmade'
    const store = await open(proxy.endpoint, dataset)
    const { pointer } = await changePointer(store.pointer, flipFrom(null, 1, 'flip-1'), { dataset })
    expect([pointer.flipId, writes]).toEqual(['flip-1', expected])
  })

  it('that answers 403 for what is not there says which right lets it tell', async () => {
    const proxy = await start(bucket.endpoint, async (_exchange, forward) => {
      const answer = await forward()
      if (answer.status !== 404) return answer
      const body = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
      const headers = { 'content-type': 'application/xml' }
      return { status: 403, headers, body: Buffer.from(answer.body.length === 0 ? '' : body) }
    })
    const store = await open(proxy.endpoint, 'forbidden')
    const refusal = {
      code: 'STORE_UNSUITABLE',
      message: expect.stringMatching(/s3:ListBucket.*object that is not there/),
    }
    await expect(store.pointer.read()).rejects.toMatchObject(refusal)
    await expect(store.data.readManifest(tagOf(1))).rejects.toMatchObject(refusal)
  })

  it('that breaks off while a pack is read reads it again', async () => {
    let broken = 0
    const proxy = await start(bucket.endpoint, async (exchange, forward) => {
      const answer = await forward()
      if (exchange.method !== 'GET' || !exchange.path.includes('gens/') || broken++ > 0) return answer
      return { ...answer, body: answer.body.subarray(0, 100), headers: { ...answer.headers, connection: 'close' } }
    })
    const store = await open(proxy.endpoint, 'broken')
    const writer = await store.data.begin(newGeneration())
    const locations = await writer.put([Buffer.alloc(5000, 1)])
    await writer.finish()
    const [found] = await store.data.read(locations)
    expect(found?.length).toBe(5000)
  })

  it.each([
    ['If-None-Match', 'if-none-match'],
    ['If-Match', 'if-match'],
  ])('whose service ignores %s is refused at the start, and the message names it', async (title, ignored) => {
    const objects = new Map<string, Buffer>()
    const etagOf = (body: Buffer) => `"${body.toString('hex')}"`
    const service = await start(null, async ({ method, path: url, headers, body }) => {
      const path = url.split('?')[0] as string
      const empty = Buffer.alloc(0)
      if (method === 'DELETE') objects.delete(path)
      if (method !== 'PUT') return { status: method === 'DELETE' ? 204 : 200, headers: {}, body: empty }
      const now = objects.get(path)
      const holds = {
        'if-none-match': headers['if-none-match'] === undefined || now === undefined,
        'if-match': headers['if-match'] === undefined || (now !== undefined && headers['if-match'] === etagOf(now)),
      }
      const isRefused = Object.entries(holds).some(([header, isTrue]) => header !== ignored && !isTrue)
      if (isRefused) return { status: 412, headers: {}, body: empty }
      objects.set(path, body)
      return { status: 200, headers: { etag: etagOf(body) }, body: empty }
    })
    const store = await open(service.endpoint, 'ignoring')
    await expect(store.check()).rejects.toMatchObject({
      code: 'STORE_UNSUITABLE',
      message: expect.stringContaining(`although its ${title}`),
    })
    expect(objects.size).toBe(0)
  })

  it('without its bucket is unsuitable, and the message names the bucket', async () => {
    const store = await openStore(bucket.url.replace(`s3://${bucket.bucket}/`, 's3://no-such-bucket/'), {
      dataset: 'shop',
    })
    const message = expect.stringMatching(/has no bucket no-such-bucket, expected it to exist/)
    await expect(store.check()).rejects.toMatchObject({ code: 'STORE_UNSUITABLE', message })
    await expect(store.pointer.read()).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' })
    await store.close()
  })

  it('that refuses the credentials says so', async () => {
    const right = process.env.AWS_SECRET_ACCESS_KEY
    process.env.AWS_SECRET_ACCESS_KEY = 'wrong'
    try {
      const store = await openStore(bucket.url, { dataset: 'shop' })
      await expect(store.check()).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' })
      await store.close()
    } finally {
      process.env.AWS_SECRET_ACCESS_KEY = right
    }
  })

  it('that is not there says what is', async () => {
    const store = await open('http://127.0.0.1:1', 'shop')
    await expect(store.pointer.read()).rejects.toMatchObject({
      code: 'STORE_UNREACHABLE',
      message: expect.stringContaining('ECONNREFUSED'),
    })
  })
})
