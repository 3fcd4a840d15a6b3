import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { openStore } from '../src/stores/open.ts'
import { bareCopy } from './bare-copy.ts'
import { captureCost } from './capture-cost.ts'
import { drill } from './drill.ts'
import { freshness } from './freshness.ts'
import { naiveLoader } from './naive-loader.ts'
import { plainSets } from './plain-sets.ts'
import { reads } from './reads.ts'
import { usedMemory } from './redis-memory.ts'
import { type Line, median, megabytes, seconds, tableOf } from './report.ts'
import { direct, rollback } from './rollback.ts'
import { changeRows } from './rows.ts'
import { verify } from './verify.ts'
import { ROUNDS_MAX, type World, withWorld } from './world.ts'

/**
 * `npm run bench -- --rows 1000000`: snapflip beside its peers, all in one run on the same rows. What is compared runs in turns, since other
 * work on the machine falls on both, and each ratio is the median of the turns' own ratios. docs/benchmarks.md says what each line means.
 */

const GROUPS = ['full', 'changes', 'stores', 'verify', 'reads', 'rollback', 'drill', 'freshness', 'capture'] as const
type Group = (typeof GROUPS)[number]

/** Full builds of more rows take minutes: one round shows enough. */
const ROWS_FOR_ROUNDS = 2_000_000
const CHANGE_TURNS = 3
const MEMORY_AIM_BYTES = 700e6

const { values: flags } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    only: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const rows = Number(flags.rows)
if (!Number.isSafeInteger(rows) || rows < 10_000)
  throw new Error(`Expected --rows of at least 10000, found ${flags.rows}.`)
for (const name of flags.only)
  if (!GROUPS.includes(name as Group)) throw new Error(`Expected --only of ${GROUPS.join(', ')}, found ${name}.`)
const wanted = (group: Group) => flags.only.length === 0 || flags.only.includes(group)
const rounds = Math.min(ROUNDS_MAX, Number(flags.rounds ?? (wanted('full') && rows <= ROWS_FOR_ROUNDS ? 3 : 1)))

const say = (line: string) => process.stderr.write(`» ${line}\n`)
const lines: Line[] = []
await withWorld(rows, say, async (world) => {
  const full = await measureFull(world)
  if (wanted('changes')) await measureChanges(world, full)
  if (wanted('verify')) await measureVerify(world, full)
  if (wanted('reads')) await measureReads(world, full)
  if (wanted('rollback')) await measureRollback(world, full)
  if (wanted('drill')) await measureDrill(world, full)
  if (wanted('freshness')) await measureFreshness(world)
  if (wanted('stores')) await measureStores(world)
  if (wanted('capture')) await measureCapture(world)
})
if (flags.json) process.stdout.write(`${JSON.stringify({ rows, rounds, lines }, null, 2)}\n`)
else process.stdout.write(`${rows} rows, ${rounds} rounds\n${tableOf(lines)}\n`)

interface Full {
  /** The dataset of the last round, and what its full build took: what comes next is compared with what ran just before it. */
  dataset: string
  ms: number
  plainBytes: number
}

async function measureFull(world: World): Promise<Full> {
  await bareCopy(world)
  const turns: Array<{ copy: number; sets: number; naive: number; full: number }> = []
  let plainBytes = 0
  let entryBytes = 0
  let peakBytes = 0
  for (let round = 1; round <= rounds; round++) {
    const before = await bareCopy(world)
    const naive = wanted('full') ? await naiveLoader(world) : Number.NaN
    const sets = await plainSets(world)
    plainBytes = sets.bytes
    await flushVersions(world)
    const empty = await usedMemory(world.plain)
    await world.worker.resetPeak()
    const { ms } = await world.refresh(`hot${round}`)
    entryBytes = (await usedMemory(world.plain)) - empty
    peakBytes = Math.max(peakBytes, await world.worker.peakBytes())
    const copy = (before + (await bareCopy(world))) / 2
    const beside = wanted('full') ? `, naive ${seconds(naive)}` : ''
    say(`round ${round}: COPY ${seconds(copy)}, SETs ${seconds(sets.ms)}${beside}, full ${seconds(ms)}`)
    turns.push({ copy, sets: sets.ms, naive, full: ms })
  }
  const of = (field: keyof (typeof turns)[number]) => median(turns.map((turn) => turn[field]))
  const toCopy = (field: keyof (typeof turns)[number]) => ({
    value: median(turns.map((turn) => turn[field] / turn.copy)),
    to: 'COPY',
  })
  if (wanted('full')) {
    const group = 'full'
    const time = (what: string, field: keyof (typeof turns)[number]): Line => ({
      group,
      what,
      measured: seconds(of(field)),
      value: of(field),
      ratio: toCopy(field),
    })
    const toNaive = median(turns.map((turn) => turn.full / turn.naive))
    lines.push(
      time("bare COPY of the build's SELECT", 'copy'),
      time('redis-cli --pipe of plain SETs', 'sets'),
      time('naive loader: COPY → ioredis pipeline', 'naive'),
      {
        ...time('refresh, full, into Redis', 'full'),
        aim: { text: '≤ 2.5', met: toCopy('full').value <= 2.5 },
      },
      {
        group,
        what: '  the same beside the naive loader',
        measured: '',
        value: toNaive,
        ratio: { value: toNaive, to: 'naive' },
        aim: { text: '< 1', met: toNaive < 1 },
      },
      {
        group,
        what: "worker's peak memory in it",
        measured: megabytes(peakBytes),
        value: peakBytes,
        aim: { text: '≤ 700 MB', met: peakBytes <= MEMORY_AIM_BYTES },
      },
      {
        group,
        what: 'Redis bytes an entry: plain SETs',
        measured: `${(plainBytes / world.rows).toFixed(0)} B`,
        value: plainBytes / world.rows,
      },
      {
        group,
        what: 'Redis bytes an entry: first version',
        measured: `${(entryBytes / world.rows).toFixed(0)} B`,
        value: entryBytes / world.rows,
        ratio: { value: entryBytes / plainBytes, to: 'plain' },
        aim: { text: '≤ 0.38', met: entryBytes / plainBytes <= 0.38 },
      },
    )
  }
  return { dataset: `hot${rounds}`, ms: (turns.at(-1) as (typeof turns)[number]).full, plainBytes }
}

/** Versions of an earlier round, whose dataset nothing asks for again. */
async function flushVersions(world: World): Promise<void> {
  await world.plain.select(0)
  await world.plain.flushdb('SYNC')
  await world.plain.select(1)
}

async function measureChanges(world: World, full: Full): Promise<void> {
  const took = new Map<number, { ms: number[]; bytes: number[]; rows: number }>()
  let peakBytes = 0
  for (let turn = 0; turn < CHANGE_TURNS; turn++) {
    for (const every of [100, 10_000]) {
      const changed = await changeRows(world.pool, every, turn)
      const before = await usedMemory(world.plain)
      await world.worker.resetPeak()
      const { ms } = await world.refresh(full.dataset)
      peakBytes = Math.max(peakBytes, await world.worker.peakBytes())
      const entry = took.get(every) ?? { ms: [], bytes: [], rows: changed }
      entry.ms.push(ms)
      entry.bytes.push((await usedMemory(world.plain)) - before)
      took.set(every, entry)
    }
  }
  for (const [every, { ms, bytes, rows: changed }] of took) {
    const aim = every === 100 ? 0.2 : 0.1
    const ratio = median(ms) / full.ms
    lines.push(
      {
        group: 'changes',
        what: `refresh after ${100 / every} % changed (${changed} rows)`,
        measured: seconds(median(ms)),
        value: median(ms),
        ratio: { value: ratio, to: 'last full' },
        aim: { text: `≤ ${aim}`, met: ratio <= aim },
      },
      {
        group: 'changes',
        what: '  Redis bytes of that version, by entry',
        measured: `${(median(bytes) / world.rows).toFixed(1)} B`,
        value: median(bytes) / world.rows,
        ratio: { value: median(bytes) / full.plainBytes, to: 'plain' },
      },
    )
  }
  lines.push({
    group: 'changes',
    what: "worker's peak memory in them",
    measured: megabytes(peakBytes),
    value: peakBytes,
  })
}

async function measureVerify(world: World, full: Full): Promise<void> {
  const store = await openStore(world.redisUrl, { dataset: full.dataset })
  const took: number[] = []
  try {
    for (let turn = 0; turn < 3; turn++) took.push(await verify(store, full.dataset))
  } finally {
    await store.close()
  }
  const ms = median(took)
  lines.push({
    group: 'verify',
    what: 'verify: every block read again, in Redis',
    measured: seconds(ms),
    value: ms,
    ratio: { value: ms / full.ms, to: 'last full' },
  })
}

async function measureStores(world: World): Promise<void> {
  for (const [further, name] of [
    ['local', 'a folder'],
    ['archive', 'S3 (versitygw)'],
  ] as const) {
    for (const [every, what] of [
      [0, `staging into ${name} what was built in full in Redis`],
      [100, '  after 1 %'],
    ] as const) {
      if (every > 0) await changeRows(world.pool, every, 60)
      const { stage = Number.NaN, build = Number.NaN } = (await world.refresh(`hotAnd-${further}`)).outcome.durationsMs
      const ratio = { value: stage / build, to: 'its build' }
      lines.push({ group: 'stores', what, measured: seconds(stage), value: stage, ratio })
    }
  }
  for (const [dataset, name] of [
    ['local', 'folder'],
    ['archive', 'S3 (versitygw)'],
  ] as const) {
    await world.worker.resetPeak()
    const copy = await bareCopy(world)
    const first = (await world.refresh(dataset)).ms
    const peakBytes = await world.worker.peakBytes()
    const ratio = (2 * first) / (copy + (await bareCopy(world)))
    lines.push(
      {
        group: 'stores',
        what: `refresh, full, into ${name}`,
        measured: seconds(first),
        value: first,
        ratio: { value: ratio, to: 'COPY' },
      },
      { group: 'stores', what: "  worker's peak memory", measured: megabytes(peakBytes), value: peakBytes },
    )
    for (const every of [100, 10_000]) {
      await changeRows(world.pool, every, 50)
      const { ms } = await world.refresh(dataset)
      lines.push({
        group: 'stores',
        what: `  after ${100 / every} %`,
        measured: seconds(ms),
        value: ms,
        ratio: { value: ms / first, to: 'its full' },
      })
    }
  }
}

async function measureReads(world: World, full: Full): Promise<void> {
  const pair = await reads(world, full.dataset)
  const us = (value: number) => `${value.toFixed(0)} µs`
  const rate = (value: number) => `${Math.round(value / 1000)},000/s`
  const line = (what: string, measured: string, value: number): Line => ({ group: 'reads', what, measured, value })
  lines.push(
    line('raw GET + JSON.parse, one at a time, p50', us(pair.raw.p50Us), pair.raw.p50Us),
    {
      ...line('get, p50', us(pair.get.p50Us), pair.get.p50Us),
      ratio: { value: pair.p50Ratio, to: 'raw' },
      aim: { text: '≤ 1.3', met: pair.p50Ratio <= 1.3 },
    },
    line('raw, p99', us(pair.raw.p99Us), pair.raw.p99Us),
    { ...line('get, p99', us(pair.get.p99Us), pair.get.p99Us), ratio: { value: pair.p99Ratio, to: 'raw' } },
    line('raw, 100 in flight', rate(pair.raw.perSecond), pair.raw.perSecond),
    {
      ...line('get, 100 in flight', rate(pair.get.perSecond), pair.get.perSecond),
      ratio: { value: pair.throughputRatio, to: 'raw' },
      aim: { text: '≥ 0.45', met: pair.throughputRatio >= 0.45 },
    },
  )
}

async function measureRollback(world: World, full: Full): Promise<void> {
  await changeRows(world.pool, 10_000, 77)
  await world.refresh(full.dataset)
  const took = await rollback(world, full.dataset)
  const line = (what: string, value: number): Line => ({ group: 'rollback', what, measured: seconds(value), value })
  lines.push(
    line('rollback, from command to pointer', took.toPointerMs),
    {
      ...line('  to the last of 8 readers', took.toLastReaderMs),
      aim: { text: '< 500 ms', met: took.toLastReaderMs < 500 },
    },
    line('  to the end: read back through the SDK', took.toEndMs),
  )
}

async function measureFreshness(world: World): Promise<void> {
  const seen = await freshness(world, say)
  const line = (what: string, value: number, measured: string): Line => ({ group: 'freshness', what, measured, value })
  lines.push(
    line('writes, a transaction each', seen.writesPerSecond, `${seen.writesPerSecond.toFixed(0)}/s`),
    line('flips meanwhile', seen.refreshesPerSecond, `${seen.refreshesPerSecond.toFixed(2)}/s`),
    {
      ...line('from COMMIT to a reader, p50', seen.p50Ms, seconds(seen.p50Ms)),
      aim: { text: '< 1 s', met: seen.p50Ms < 1000 },
    },
    {
      ...line('from COMMIT to a reader, p99', seen.p99Ms, seconds(seen.p99Ms)),
      aim: { text: '< 3 s', met: seen.p99Ms < 3000 },
    },
  )
}

/** A drill, and what it rehearses done without Temporal: the process of the command line is counted in. */
async function measureDrill(world: World, full: Full): Promise<void> {
  const { dataset } = full
  await resume(world, dataset)
  await changeRows(world.pool, 10_000, 78)
  await world.refresh(dataset)
  const { timesMs } = await drill(world, dataset)
  const took = await rollback(world, dataset, direct)
  const line = (what: string, value: number): Line => ({ group: 'drill', what, measured: seconds(value), value })
  const of = (name: string) => timesMs[name] ?? Number.NaN
  const aim = (value: number) => ({ text: '< 500 ms', met: value < 500 })
  lines.push(
    line('drill, away to the pointer', of('away')),
    { ...line(`  to the last of ${of('readers')} readers`, of('awayToLastReader')), aim: aim(of('awayToLastReader')) },
    line('  back to the pointer', of('back')),
    { ...line('  to the last of them', of('backToLastReader')), aim: aim(of('backToLastReader')) },
    line('rollback --direct, from the start of its process to the pointer', took.toPointerMs),
    line('  to the last of 8 readers', took.toLastReaderMs),
    line('  to the end: every block of the target read again', took.toEndMs),
  )
}

async function resume(world: World, dataset: string): Promise<void> {
  const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
  const args = ['resume', dataset, '--keep-quarantine', '--reason', 'bench', '--config', world.configFile]
  await promisify(execFile)(process.execPath, [main, ...args])
}

async function measureCapture(world: World): Promise<void> {
  const cost = await captureCost(world)
  if (cost === null) {
    say('pgbench not found: what capture costs writers is not measured')
    return
  }
  const tps = (value: number) => `${value.toFixed(0)} tps`
  lines.push(
    { group: 'capture', what: 'pgbench, 4 clients', measured: tps(cost.plainTps), value: cost.plainTps },
    {
      group: 'capture',
      what: 'pgbench, 3 of its 4 tables captured',
      measured: tps(cost.capturedTps),
      value: cost.capturedTps,
      ratio: { value: cost.ratio, to: 'without' },
    },
  )
}
