import { writeFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { type Incident, incidentSchema, type Missing } from '../../schemas/incident.ts'
import { SnapflipError } from '../core/errors.ts'
import { incidentPage } from '../core/incident-page.ts'
import { gatherIncident, type Window, windowOfFlip } from '../observe/incident.ts'
import { createLog } from '../observe/log.ts'
import { openStore } from '../stores/open.ts'
import type { Store } from '../stores/ports.ts'
import { moment } from './moment.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'
import { verifiedChain } from './verified-chain.ts'

interface Options extends CommonOptions {
  flip?: string
  since?: Date
  until?: Date
  out?: string
  format: 'json' | 'md'
}

export function incident(program: Command): void {
  const command = verb(program, {
    usage: 'incident',
    summary: 'what an incident leaves behind for whoever looks into it',
    examples: [
      ['snapflip incident export shop --since 2026-05-18T09:00:00Z --out incident.json', 'all there is, in one file'],
    ],
  })
  verb(command, {
    usage: 'export [dataset]',
    summary:
      'write one bundle: timeline, evidence, approvals, alerts, metrics, the times of each move, and whether the chain verifies',
    examples: [
      [
        'snapflip incident export --flip 0196e1f0-0000-7000-8000-000000000001 --out incident.json',
        "the time of one flip's version",
      ],
      ['snapflip incident export shop --since 2026-05-18T09:00:00Z --format md', 'for people'],
    ],
  })
    .option('--flip <id>', 'from the refresh that built its version until readers left that')
    .option('--since <time>', 'from then on (a day, or a time with its zone)', moment)
    .option('--until <time>', 'until then; now without it', moment)
    .option('--out <file>', 'a file that is not there yet; standard output without it')
    .addOption(new Option('--format <format>', 'json, or md for people').choices(['json', 'md']).default('json'))
    .action(act<Options, [string | undefined]>(run))
}

async function run(session: Session, options: Options, dataset: string | undefined): Promise<Answer> {
  if (dataset !== undefined) await session.recordedDataset(dataset)
  const { out, format } = options
  const window = await windowOf(session, options, dataset ?? null)
  const bundle = await bundleOf(session, window)
  const text = format === 'md' ? incidentPage(bundle) : `${JSON.stringify(bundle, null, 2)}\n`
  if (out === undefined) return { json: bundle, text: text.trimEnd() }
  await writeFile(out, text, { flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    const found = error.code === 'EEXIST' ? 'that it is there already' : error.message
    throw usage(`Expected to write ${out}, found ${found}. Name another file with --out.`)
  })
  const { timeline, movements, alerts, chain, cut, missing } = bundle
  const counted = `${timeline.length} entries, ${movements.length} moves, ${alerts.length} alerts`
  const told = chain.verified ? 'the chain verifies' : `the chain does not verify: ${chain.found}`
  const lines = [
    `Wrote ${out}: ${counted}; ${told}.`,
    ...missing.map(({ part, why }) => `It lacks ${part}: ${why}`),
    ...(cut.length === 0 ? [] : [`There were more than fit, and the oldest are left out, of: ${cut.join(', ')}.`]),
  ]
  return { json: { out, entries: timeline.length, chain, cut, missing }, text: lines.join('\n') }
}

async function windowOf(session: Session, { flip, since, until }: Options, dataset: string | null): Promise<Window> {
  if ((flip === undefined) === (since === undefined))
    throw usage(
      `Expected one of --flip <id> and --since <time>, found ${flip === undefined ? 'neither' : 'both'}. --flip takes the time of one flip's version, --since all from then on.`,
    )
  if (since !== undefined) {
    const end = until ?? new Date()
    if (end <= since)
      throw usage(`Expected --until after --since, found ${end.toISOString()} after ${since.toISOString()}.`)
    return { dataset, flipId: null, since, until: end }
  }
  const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(flip ?? '')
  const window = isId ? await windowOfFlip(await session.registry(), flip ?? '') : null
  if (window === null || (dataset !== null && window.dataset !== dataset))
    throw usage(
      `Expected the id of a flip${dataset === null ? '' : ` of ${dataset}`}, found ${JSON.stringify(flip)}. \`snapflip history ${dataset ?? '<dataset>'} --kind flip --json\` has them as flipId.`,
    )
  return until === undefined ? window : { ...window, until }
}

/** A part that does not answer does not keep the rest from being written. */
async function bundleOf(session: Session, window: Window): Promise<Incident> {
  const registry = await session.registry()
  const { missing, ...chain } = await verifiedChain(session)
  const stores = storesOf(session)
  const gathered = await gatherIncident(registry, window, stores)
  const metrics = await measured(session)
  const { dataset, flipId, since, until } = window
  return incidentSchema.parse({
    format: 1,
    exportedAt: new Date().toISOString(),
    ...{ dataset, flipId },
    since: since.toISOString(),
    until: until.toISOString(),
    ...gathered,
    missing: [...missing, ...gathered.missing, ...metrics.missing],
    metrics: metrics.values.filter(({ labels }) => dataset === null || (labels.dataset ?? dataset) === dataset),
    chain: chain.verified ? chain : { verified: false, found: chain.error.message },
  })
}

/** Each of a dataset's stores, opened once. */
function storesOf(session: Session): (dataset: string) => Promise<Store[]> {
  const opened = new Map<string, Promise<Store[]>>()
  const open = async (dataset: string) => {
    const { stores } = await session.config()
    const definition = await session.recordedDataset(dataset)
    return Promise.all(
      definition.stores.map(async (name) => {
        const store = await openStore(stores[name] ?? '', { dataset })
        session.onClose(() => store.close())
        return store
      }),
    )
  }
  return (dataset) => {
    const known = opened.get(dataset) ?? open(dataset)
    opened.set(dataset, known)
    return known
  }
}

async function measured(session: Session): Promise<{ values: Incident['metrics']; missing: Missing[] }> {
  const [{ Measurements }, { WorkerMetrics }] = await Promise.all([
    import('../observe/measurements.ts'),
    import('../observe/worker-metrics.ts'),
  ])
  const missing: Missing[] = []
  // What could not be measured is told to the log alone.
  const write = (line: string) => {
    const { question, err } = JSON.parse(line) as { question?: string; err?: { message?: string } }
    missing.push({ part: `metrics: ${question}`, why: err?.message ?? line })
  }
  const measurements = new Measurements({
    config: await session.config(),
    pool: await session.registry(),
    store: (dataset, name) => session.store(dataset, name),
    // A worker tells it; nothing of an incident that is over.
    backlog: async () => ({}),
    metrics: new WorkerMetrics(),
    log: createLog({ level: 'warn', destination: { write } }),
  })
  return { values: await measurements.now(), missing }
}

const usage = (message: string) => new SnapflipError('USAGE', message)
