import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Redis } from 'ioredis'
import pg from 'pg'
import { inject } from 'vitest'
import type { PostgresVersion } from '../../src/local/postgres.ts'
import { askBroker, type PostgresAddress, type ServiceAddresses, type ServiceName } from './service-broker.ts'

/** For `describe.each`: the oldest and the newest supported PostgreSQL. */
export const postgresVersions: readonly PostgresVersion[] = ['18', '15']
/** For `describe.each`: a standalone Redis, and a node in cluster mode that holds all slots. */
export const redisModes = ['standalone', 'cluster'] as const

/** What this test file took and gives back when it ends, last first. */
const taken: (() => Promise<void>)[] = []

/** Where a service answers; starts it, once per run, when no test has asked for it yet. */
export function serviceAddress<N extends ServiceName>(name: N): Promise<ServiceAddresses[N]> {
  return askBroker(inject('brokerSocket'), name)
}

export type TestDatabase = {
  url: string
  name: string
  version: PostgresVersion
  /** Connects as superuser. Ended by `drop`. */
  pool: pg.Pool
  /** Ends the pool and drops the database. Fails when a connection or a prepared transaction was left open. */
  drop(): Promise<void>
}

/**
 * A fresh database, cloned from a template; dropped after the file's last test unless `drop` was called before.
 * `migrated: false` gives one without snapflip's tables.
 */
export async function testDatabase({
  version = '18',
  migrated = true,
}: {
  version?: PostgresVersion
  migrated?: boolean
} = {}): Promise<TestDatabase> {
  const server: PostgresAddress = await serviceAddress(`postgres${version}`)
  if (migrated && server.migrationError !== undefined) {
    throw new Error(`The migrations failed on PostgreSQL ${version}: ${server.migrationError}`)
  }
  const name = `test_${uniqueName()}`
  await asAdmin(server.url, (admin) =>
    // Copied as files: a fifth of the time that logging each page of 9 MB takes (33 ms to 176 ms).
    admin.query(`create database ${name} template ${migrated ? server.migrated : server.bare} strategy file_copy`),
  )
  const url = new URL(server.url)
  url.pathname = `/${name}`
  const pool = new pg.Pool({ connectionString: url.href })
  pool.on('error', () => {}) // a test may end connections; the next query tells
  const drop = once(async () => {
    if (!pool.ended) await pool.end()
    await asAdmin(server.url, (admin) => dropDatabase(admin, name))
  })
  taken.push(drop)
  return { url: url.href, name, version, pool, drop }
}

/** Without `force` PostgreSQL waits up to 5 s for sessions that are just ending, then names what is still open. */
async function dropDatabase(admin: pg.Client, name: string): Promise<void> {
  try {
    await admin.query(`drop database ${name}`)
  } catch (cause) {
    const sessions = await admin.query<{ text: string }>(
      `select format('session of %s, %s, last query: %s', coalesce(nullif(application_name, ''), 'unnamed'), state, left(query, 120)) as text
         from pg_stat_activity where datname = $1
       union all
       select format('prepared transaction %s', gid) from pg_prepared_xacts where database = $1
       union all
       select format('replication slot %s', slot_name) from pg_replication_slots where database = $1`,
      [name],
    )
    const leaks = sessions.rows.map((row) => row.text)
    throw new Error(`Expected nothing left open on database ${name} when its test ended, found:\n${leaks.join('\n')}`, {
      cause,
    })
  }
}

async function asAdmin<T>(url: string, act: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  try {
    return await act(admin)
  } finally {
    await admin.end()
  }
}

export type TestRedis = {
  url: string
  host: string
  port: number
  /** Unique; every key of the test holds it (anywhere), which is how `cleanup` finds them. */
  prefix: string
  /** Deletes every key that holds the prefix. */
  cleanup(): Promise<void>
}

/** The shared standalone Redis (maxmemory-policy noeviction) and a key prefix of one's own; cleaned up after the file. */
export function testRedis(): Promise<TestRedis> {
  return redisOf('redis')
}

/** As `testRedis`, on a node with `cluster-enabled yes` that holds all slots. */
export function testRedisCluster(): Promise<TestRedis> {
  return redisOf('redisCluster')
}

/** For `describe.each(redisModes)`. */
export function testRedisIn(mode: (typeof redisModes)[number]): Promise<TestRedis> {
  return mode === 'cluster' ? testRedisCluster() : testRedis()
}

async function redisOf(name: 'redis' | 'redisCluster'): Promise<TestRedis> {
  const { url, host, port } = await serviceAddress(name)
  const prefix = `t${uniqueName()}`
  const cleanup = once(async () => {
    const redis = new Redis(url)
    try {
      for await (const keys of redis.scanStream({ match: `*${prefix}*`, count: 1000 })) {
        // One key at a time: in cluster mode a command must not span slots.
        await Promise.all((keys as string[]).map((key) => redis.unlink(key)))
      }
    } finally {
      redis.disconnect()
    }
  })
  taken.push(cleanup)
  return { url, host, port, prefix, cleanup }
}

export type TestBucket = {
  /** s3://bucket/prefix?region=…&endpoint=…&forcePathStyle=true */
  url: string
  endpoint: string
  region: string
  bucket: string
  /** Unique, without a slash at its end. */
  prefix: string
}

/** A prefix of one's own in the run's bucket. Puts the credentials into this process's AWS_… variables. */
export async function testBucket(): Promise<TestBucket> {
  const { endpoint, region, bucket, env } = await serviceAddress('s3')
  Object.assign(process.env, env)
  const prefix = `t${uniqueName()}`
  const query = new URLSearchParams({ region, endpoint, forcePathStyle: 'true' })
  return { url: `s3://${bucket}/${prefix}?${query}`, endpoint, region, bucket, prefix }
}

export type TestFolder = { path: string; url: string; cleanup(): Promise<void> }

/** An empty folder, as path and as file: URL; removed after the file's last test. */
export async function testFolder(): Promise<TestFolder> {
  const path = await mkdtemp(join(tmpdir(), 'snapflip-test-'))
  const cleanup = once(() => rm(path, { recursive: true, force: true }))
  taken.push(cleanup)
  return { path, url: pathToFileURL(path).href, cleanup }
}

export type TestTemporal = { address: string; namespace: string; taskQueue: string }

/** The run's Temporal dev server and a task queue of one's own. Workflow ids are shared: make dataset names unique too. */
export async function testTemporal(): Promise<TestTemporal> {
  const { address, namespace } = await serviceAddress('temporal')
  return { address, namespace, taskQueue: `test-${uniqueName()}` }
}

/** The file of the bundled workflows. */
export async function workflowBundle(): Promise<string> {
  return (await serviceAddress('workflowBundle')).codePath
}

/** 12 characters of a–f and 0–9. */
export function uniqueName(): string {
  return randomBytes(6).toString('hex')
}

/** Gives everything back, and fails with all that could not be given back. Called after each test file. */
export async function returnEverything(): Promise<void> {
  const errors: unknown[] = []
  for (const giveBack of taken.splice(0).reverse()) await giveBack().catch((error: unknown) => errors.push(error))
  if (errors.length === 1) throw errors[0]
  if (errors.length > 1) throw new AggregateError(errors, errors.map(String).join('\n'))
}

/** Runs `act` once; again only after it failed. */
function once(act: () => Promise<void>): () => Promise<void> {
  let result: Promise<void> | undefined
  return () => {
    result ??= act().catch((error: unknown) => {
      result = undefined
      throw error
    })
    return result
  }
}
