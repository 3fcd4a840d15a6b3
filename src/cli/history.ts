import { type Command, InvalidArgumentError } from 'commander'
import { stringify } from 'csv-stringify/sync'
import type { Anchor } from '../../schemas/pointer.ts'
import { anchorText } from '../core/anchor.ts'
import { HISTORY_KINDS, isKindOrGroup } from '../core/history-kinds.ts'
import type { AcceptedAnchor } from '../registry/accepted-anchors.ts'
import { type HistoryEntry, historyEntries } from '../registry/history-entries.ts'
import { anchor } from './anchor.ts'
import { historyAccept } from './history-accept.ts'
import { moment } from './moment.ts'
import type { Session } from './session.ts'
import { formatTime, table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'
import { verifiedChain } from './verified-chain.ts'

interface Options extends CommonOptions {
  limit: number
  kind?: string
  actor?: string
  tag?: string
  since?: Date
  until?: Date
  csv?: boolean
}

interface VerifyOptions extends CommonOptions {
  anchor: Anchor[]
}

const DETAIL_CHARS_MAX = 100
const GROUPS = [...new Set(Object.keys(HISTORY_KINDS).map((kind) => kind.split('.')[0]))].join(', ')

export function history(program: Command): void {
  const command = verb(program, {
    usage: 'history <dataset>',
    summary: 'what happened to a dataset, newest first, from the hash-chained history',
    examples: [
      ['snapflip history shop', 'the last 50 entries'],
      ['snapflip history shop --kind flip --since 2026-05-01', 'flips since a day'],
      ['snapflip history shop --actor ana --csv', 'what one person did, for a spreadsheet'],
      ['snapflip history verify', 'computes every hash of the chain again'],
    ],
  })
    .option('--limit <n>', 'how many entries', positive, 50)
    .option('--kind <kind>', `only entries of this kind, as flip.confirmed, or of all that begin so: ${GROUPS}`, kindOf)
    .option('--actor <name>', 'only entries by this person or worker')
    .option('--tag <tag>', 'only entries of this version')
    .option('--since <time>', 'only entries since then (a day, or a time with its zone)', moment)
    .option('--until <time>', 'only entries before then (a day, or a time with its zone)', moment)
    .option('--csv', 'print all fields as CSV, the detail as JSON in one of them')
    .action(act<Options, [string]>(run))
  verb(command, {
    usage: 'verify [dataset]',
    summary:
      'compute every hash of the chain again and compare it with the anchors in the stores: finds edits, removals, another order and cut tails',
    examples: [
      ['snapflip history verify', 'with the anchors in the stores of every dataset'],
      ['snapflip history verify shop', 'with those of one'],
      [`snapflip history verify --anchor 812:${'a1'.repeat(32)}`, 'and with a hash that was noted elsewhere'],
    ],
    more: 'Where a store does not answer, its anchor is not compared: that is said, and is no success.',
    ends: ['HISTORY_BROKEN', 'STORE_UNREACHABLE'],
  })
    .option('--anchor <seq:hash>', 'length and last hash as an earlier run printed them; may be given again', noted, [])
    .action(act<VerifyOptions, [string | undefined]>(runVerify))
  historyAccept(command)
}

const noted = (text: string, before: Anchor[]): Anchor[] => [...before, anchor(text)]

async function runVerify(session: Session, options: VerifyOptions, dataset: string | undefined): Promise<Answer> {
  const chain = await verifiedChain(session, { dataset, noted: options.anchor })
  const { missing } = chain
  const left = missing.map(({ part, why }) => `NOT compared with ${part}: ${why}`)
  if (!chain.verified) {
    for (const line of left) session.note(line)
    for (const { dataset, store, ...anchor } of chain.contradicted)
      session.note(
        `The history does not lead to ${anchorText(anchor)}, which the last flip of ${dataset} left in ${store}.`,
      )
    throw chain.error
  }
  const { entries, hash, anchors, accepted } = chain
  const text = `The chain verifies: ${entries} entries, the last one's hash is ${hash}; anchors it was compared with: ${anchors}.`
  return {
    json: { entries, hash, anchors, accepted, missing },
    text: [text, ...accepted.map(acceptedText), ...left].join('\n'),
    ...(missing.length > 0 ? { code: 'STORE_UNREACHABLE' as const } : {}),
  }
}

function acceptedText({ by, at, reason, entry, ...anchor }: AcceptedAnchor): string {
  return `It does not lead to ${anchorText(anchor)}: accepted by ${by} at ${formatTime(new Date(at))} (entry ${entry}): ${reason}`
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  await session.recordedDataset(dataset)
  const registry = await session.registry()
  const { limit, kind, actor, tag: version, since, until } = options
  const entries = await historyEntries(registry, { dataset, limit, kind, actor, version, since, until })
  if (options.csv) return { json: { dataset, entries }, text: csv(entries) }
  const rows = entries.map(({ seq, at, kind, version, actor, detail }) => [
    seq,
    formatTime(at),
    kind,
    version,
    actor,
    summary(detail),
  ])
  const text =
    entries.length === 0 ? `No entries of ${dataset}.` : table(['#', 'at', 'what', 'version', 'by', 'detail'], rows)
  return { json: { dataset, entries }, text }
}

function csv(entries: readonly HistoryEntry[]): string {
  const rows = entries.map((entry) => ({ ...entry, at: entry.at.toISOString(), detail: JSON.stringify(entry.detail) }))
  const columns = ['seq', 'at', 'dataset', 'actor', 'kind', 'version', 'detail', 'hash']
  // A cell that begins like a formula would be one in a spreadsheet; reasons are typed by people.
  return stringify(rows, { header: true, columns, escape_formulas: true }).trimEnd()
}

/** What people look for: what was said first, and no ids nor hashes, which --json has. */
function summary({ reason, summary, why, ...others }: Record<string, unknown>): string {
  const said = [reason, summary, why].filter((text): text is string => typeof text === 'string' && text !== '')
  const parts = Object.entries(others)
    .filter(
      ([name, value]) =>
        value !== null &&
        typeof value !== 'object' &&
        !/(Id|Digest|Sha256)$|^(digest|manifest|generation|alert|incident)$/.test(name),
    )
    .map(([name, value]) => `${name} ${value}`)
  const text = [...said, ...parts].join('; ')
  return text.length > DETAIL_CHARS_MAX ? `${text.slice(0, DETAIL_CHARS_MAX - 1)}…` : text
}

function kindOf(text: string): string {
  if (!isKindOrGroup(text))
    throw new InvalidArgumentError(`Expected a kind of docs/history.md, or what it begins with: ${GROUPS}.`)
  return text
}

export function positive(text: string): number {
  const number = Number(text)
  if (!Number.isSafeInteger(number) || number < 1) throw new InvalidArgumentError('Expected a whole number from 1 on.')
  return number
}
