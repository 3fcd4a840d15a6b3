import { readdir } from 'node:fs/promises'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { Connection } from '@temporalio/client'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import {
  postgresVersions,
  testBucket,
  testDatabase,
  testFolder,
  testRedis,
  testRedisCluster,
  testTemporal,
} from '../support/services.ts'

describe.each(postgresVersions)('PostgreSQL %s', (version) => {
  test('is the version asked for, and set up for capture and prepared transactions', async () => {
    const { pool } = await testDatabase({ version, migrated: false })
    const { rows } = await pool.query(
      `select current_setting('server_version') as version, current_setting('wal_level') as wal_level,
              current_setting('max_prepared_transactions') as prepared, current_setting('synchronous_commit') as commit`,
    )
    expect(rows[0]).toMatchObject({ wal_level: 'logical', prepared: '20', commit: 'on' })
    expect(rows[0].version).toMatch(new RegExp(`^${version}\\.`))
  })

  test('gives databases with the migrations run', async () => {
    const { pool } = await testDatabase({ version })
    const { rows } = await pool.query('select count(*)::int as run from snapflip.migrations')
    expect(rows[0].run).toBeGreaterThan(0)
  })

  test('a database whose connections were left open cannot be dropped unnoticed', async () => {
    const database = await testDatabase({ version, migrated: false })
    const forgotten = new pg.Client({ connectionString: database.url, application_name: 'forgetful' })
    await forgotten.connect()
    await expect(database.drop()).rejects.toThrow(/session of forgetful/)
    await forgotten.end()
    const again = await testDatabase({ version, migrated: false })
    await again.pool.query('select 1')
    await again.drop()
  })
})

describe('Redis', () => {
  test('answers, and evicts nothing', async () => {
    const { url, prefix, cleanup } = await testRedis()
    const redis = new Redis(url)
    expect(await redis.ping()).toBe('PONG')
    expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction'])
    await redis.set(`{${prefix}}:key`, 'value')
    await cleanup()
    expect(await redis.exists(`{${prefix}}:key`)).toBe(0)
    redis.disconnect()
  })

  test('in cluster mode holds all slots', async () => {
    const { url } = await testRedisCluster()
    const redis = new Redis(url)
    const info = String(await redis.call('cluster', 'info'))
    expect(info).toContain('cluster_state:ok')
    expect(info).toContain('cluster_slots_assigned:16384')
    await expect(redis.mset('a', '1', 'b', '2')).rejects.toThrow(/CROSSSLOT/)
    redis.disconnect()
  })
})

test('the S3 server refuses to put an object that is there already', async () => {
  const { endpoint, region, bucket, prefix } = await testBucket()
  const s3 = new S3Client({ endpoint, region, forcePathStyle: true })
  const put = (Body: string) =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/once`, Body, IfNoneMatch: '*' }))
  const { ETag } = await put('first')
  await expect(put('second')).rejects.toMatchObject({ $metadata: { httpStatusCode: 412 } })
  const replace = (IfMatch: string) =>
    s3.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/once`, Body: 'third', IfMatch }))
  await expect(replace('"other"')).rejects.toMatchObject({ $metadata: { httpStatusCode: 412 } })
  await replace(String(ETag))
  s3.destroy()
})

test('Temporal serves the namespace', async () => {
  const { address, namespace } = await testTemporal()
  const connection = await Connection.connect({ address })
  const described = await connection.workflowService.describeNamespace({ namespace })
  expect(described.namespaceInfo?.name).toBe(namespace)
  await connection.close()
})

test('a folder is empty and writable', async () => {
  const { path, url } = await testFolder()
  expect(url).toBe(`file://${path}`)
  expect(await readdir(path)).toEqual([])
})
