import { type Command, InvalidArgumentError } from 'commander'
import { FOLLOW_LAG_MS } from '../core/readers-on.ts'
import { gateResults } from '../registry/gate-results.ts'
import type { HistoryEntry } from '../registry/history-entries.ts'
import type { RefreshRow } from '../registry/refreshes.ts'
import { type Served, servedAt as servedAtOf } from '../registry/served-at.ts'
import type { StandingStore } from '../registry/standing-at.ts'
import { approvalText } from './approval-text.ts'
import { gateTable } from './gate-table.ts'
import { moment } from './moment.ts'
import { ranUnder } from './ran-under.ts'
import type { Session } from './session.ts'
import { card, formatTime } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

export function servedAt(program: Command): void {
  verb(program, {
    usage: 'served-at <dataset> <time>',
    summary:
      'what readers got at a moment: which version, how it got there, from what it was built, with which evidence',
    examples: [
      ['snapflip served-at shop 2026-05-18T09:30:00Z', 'for an audit, or after an incident'],
      ['snapflip served-at shop now', 'in one'],
    ],
  }).action(act<CommonOptions, [string, string]>(run))
}

async function run(session: Session, _options: CommonOptions, dataset: string, time: string): Promise<Answer> {
  await session.recordedDataset(dataset)
  const at = moment(time)
  if (at.getTime() > Date.now()) throw new InvalidArgumentError(`Expected a time that has passed, found ${time}.`)
  const registry = await session.registry()
  const served = await servedAtOf(registry, dataset, at)
  const gates = served.version === null ? [] : await gateResults(registry, dataset, served.version.tag)
  // What a reader has that declares nothing else.
  const json = { dataset, at, ...served, gates, followLagMs: FOLLOW_LAG_MS }
  if (served.version === null) return { json, text: [nothingYet(dataset, at), ...underWay(served)].join('\n') }
  const text = [identity(dataset, at, served), ...underWay(served)]
  text.push(gates.length === 0 ? 'No gate has looked at it.' : gateTable(gates))
  return { json, text: text.join('\n\n') }
}

const nothingYet = (dataset: string, at: Date) => `Readers of ${dataset} had no version at ${formatTime(at)}.`

function identity(dataset: string, at: Date, served: Served): string {
  const { version, flip, next, approval, refresh, judgedBy, policy, decisions } = served
  return card([
    ['served', `${version?.tag} of ${dataset} at ${formatTime(at)}`],
    ['since', `${formatTime(flip?.settledAt ?? null)}, epoch ${flip?.epoch}, by ${flip?.kind} ${flip?.flipId}`],
    ['moved by', `${flip?.actor}${flip?.reason == null ? '' : `: ${flip.reason}`}`],
    ['readers', readersOf(served)],
    ...served.stores.map((store) => ['store', storeText(store)] as const),
    ['until', next === null ? 'now' : `${formatTime(next.settledAt)}, ${next.kind} to ${next.to} by ${next.actor}`],
    ['approval', approval === null ? noApproval(served) : approvalText(approval)],
    ['built by', refresh === null ? 'unknown: it was found in the store' : asked(refresh)],
    ['judged by', judgedBy === null ? null : asked(judgedBy)],
    [
      'policy',
      policy === null
        ? null
        : `version ${policy.number}, applied by ${policy.appliedBy} at ${formatTime(policy.appliedAt)}`,
    ],
    ['ran under', ranUnder(refresh)],
    ['built on', version?.parent ?? 'the source alone'],
    [
      'watermark',
      version?.watermark == null ? null : `${formatTime(version.watermark.at)}, snapshot ${version.watermark.snapshot}`,
    ],
    ['digest', version?.digest ?? null],
    ['manifest', version?.manifestSha256 ?? null],
    ...(decisions.length === 0
      ? [['decided', 'nothing by a person, canary or bake'] as const]
      : decisions.map(decided)),
  ])
}

/** Where the registry lost something, or found the version in a store, there may have been one. */
const noApproval = ({ needlessBy }: Served) =>
  needlessBy === null ? 'none recorded' : `none recorded: policy ${needlessBy} asked for none`

const asked = ({ refreshId, requestedBy, reason }: RefreshRow) =>
  `refresh ${refreshId}, asked for by ${requestedBy}${reason === null ? '' : `: ${reason}`}`

/** Within their follow lag, which each reader declares for itself; those that pin a version stay on it. */
function readersOf({ shares, canary, pin }: Served): string {
  const parts = shares.map(({ tag, share, why }) => `${Math.round(share * 1000) / 10} % on ${tag} (${why})`)
  const probed = canary !== null && canary.share === null ? [`${canary.tag} was probed as candidate`] : []
  const kept = pin === null ? [] : [`pinned by ${pin.by} until ${formatTime(pin.until)}: ${pin.reason}`]
  const lag = `within their follow lag (${FOLLOW_LAG_MS} ms unless a reader declares another)`
  return [...parts, ...probed, ...kept, lag].join('; ')
}

function storeText({ name, state, tag, since, why }: StandingStore): string {
  return state === 'current'
    ? `${name}: on ${tag} since ${formatTime(since)}`
    : `${name}: degraded since ${formatTime(since)}, its readers stay on ${tag ?? 'no version'} as far as is known: ${why}`
}

function decided({ kind, at, actor, detail }: HistoryEntry): readonly [string, string] {
  const { reason, summary, gate } = detail
  const said = [gate, reason, summary].filter((text) => typeof text === 'string' && text !== '').join(': ')
  return ['decided', `${kind} at ${formatTime(at)} by ${actor}${said === '' ? '' : `: ${said}`}`]
}

/** Said, not guessed: the store's pointer was set at some moment between the two. */
function underWay({ underWay }: Served): string[] {
  if (underWay === null) return []
  const known =
    underWay.settledAt === null ? 'not settled yet' : `known to be made at ${formatTime(underWay.settledAt)}`
  return [
    `A ${underWay.kind} to ${underWay.to} was under way: wanted at ${formatTime(underWay.intendedAt)}, ${known}. Readers were before it or after it.`,
  ]
}
