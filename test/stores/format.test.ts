import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { openStore } from '../../src/stores/open.ts'
import { readVersion } from '../snapshot/vectors-reader.mjs'
import { CONTENTS, DATASET, fillStore } from '../snapshot/vectors-store.ts'
import { testBucket, testRedis, uniqueName } from '../support/services.ts'
import { report } from './reports.ts'

/** Names are put together here as docs/format.md, "Where things lie", tells them; the folder's are in test/snapshot/vectors-reader.mjs. */

interface Location {
  generation: string
  pack: number
  offset: number
  length: number
}

async function expectRead(store: Parameters<typeof readVersion>[0]): Promise<void> {
  expect(await readVersion(store)).toMatchObject({ tag: 'v20260518-02', indexes: CONTENTS[1] })
  expect(await readVersion(store, { tag: 'v20260518-01' })).toMatchObject({ indexes: CONTENTS[0] })
}

test('a reader written from the format page alone reads Redis, and hears of a change on the channel', async () => {
  const { url, prefix } = await testRedis()
  const redis = new Redis(url)
  const listener = new Redis(url)
  const store = await openStore(`${url}?prefix=${prefix}`, { dataset: DATASET })
  try {
    const heard: string[] = []
    listener.on('message', (_channel, message) => heard.push(message))
    await listener.subscribe(`{${prefix}:${DATASET}}:c`)
    await fillStore(store)
    await store.leases.put({ id: 'one', tag: 'v20260518-01', kind: 'reader', ttlMs: 60_000 })
    const slot = `{${prefix}:${DATASET}}`
    await expectRead({
      pointer: async () => JSON.parse((await redis.hget(`${slot}:p`, 'v')) as string),
      manifest: async (tag) => (await redis.hgetBuffer(`${slot}:m`, tag)) as Buffer,
      object: async (location) => {
        const { generation, offset } = location as Location
        const key = Buffer.from(generation, 'hex').toString('base64url') + offset.toString(36)
        return (await redis.getBuffer(`${prefix}:${DATASET}:${key}`)) as Buffer
      },
    })
    expect(await redis.hget(`${slot}:l`, 'one')).toMatch(/^\d{13} v20260518-01 reader$/)
    const counted = report({ watchId: 'canary-1', side: 'candidate', readerId: 'a/b' })
    await store.counters.put(counted)
    expect(JSON.parse(String(await redis.hget(`${slot}:n:canary-1`, 'candidate a/b')))).toEqual(counted)
    expect(Object.values(await redis.hgetall(`${slot}:j`))).toEqual([
      expect.stringMatching(/^4096 \d{13} finished$/),
      expect.stringMatching(/^4096 \d{13} finished$/),
    ])
    expect(Object.keys(await redis.hgetall(`${slot}:p`)).sort()).toEqual(['i', 'm', 'r', 'v'])
    await expect.poll(() => heard.at(-1)).toBe(await redis.hget(`${slot}:p`, 'r'))
  } finally {
    await store.close()
    redis.disconnect()
    listener.disconnect()
  }
})

test('a reader written from the format page alone reads S3', async () => {
  const { url, bucket, prefix, endpoint, region } = await testBucket()
  const client = new S3Client({ endpoint, region, forcePathStyle: true })
  const store = await openStore(url, { dataset: DATASET })
  const bytesOf = async (name: string, range?: string) => {
    const command = new GetObjectCommand({ Bucket: bucket, Key: `${prefix}/${DATASET}/${name}`, Range: range })
    return Buffer.from((await (await client.send(command)).Body?.transformToByteArray()) as Uint8Array)
  }
  try {
    await fillStore(store)
    const id = `a/b ${uniqueName()}`
    await store.leases.put({ id, tag: 'v20260518-01', kind: 'reader', ttlMs: 60_000 })
    await expectRead({
      pointer: async () => JSON.parse(String(await bytesOf('pointer.json'))).pointer,
      manifest: (tag) => bytesOf(`manifests/${tag}`),
      object: (location) => {
        const { generation, pack, offset, length } = location as Location
        return bytesOf(`gens/${generation}/${pack}`, `bytes=${offset}-${offset + length - 1}`)
      },
    })
    await store.counters.put(report({ watchId: 'flip/1', readerId: id }))
    const name = `counters/${encodeURIComponent('flip/1')},active,${encodeURIComponent(id)}`
    expect(JSON.parse(String(await bytesOf(name)))).toEqual(report({ watchId: 'flip/1', readerId: id }))
    expect(JSON.parse(String(await bytesOf(`leases/${encodeURIComponent(id)}`)))).toEqual({
      id,
      tag: 'v20260518-01',
      kind: 'reader',
      ttlMs: 60_000,
    })
    expect(String(await bytesOf('gens/0196e1f0000070008000000000000001/begun'))).toBe(
      '0196e1f0000070008000000000000001',
    )
  } finally {
    await store.close()
    client.destroy()
  }
})
