import type { Command } from 'commander'
import { SnapflipError } from '../core/errors.ts'
import { type WindowState, windowState } from '../core/windows.ts'
import { type Asked, authorize } from '../registry/authorize.ts'
import { recordEvent } from '../registry/record.ts'
import { issueTicket, triggering } from '../registry/ticket.ts'
import { continuousState, pauseContinuous, triggerContinuous, unpauseContinuous } from '../temporal/continuous.ts'
import {
  pauseSchedule,
  type ScheduleState,
  scheduleState,
  type Triggered,
  triggerSchedule,
  unpauseSchedule,
} from '../temporal/schedules.ts'
import { temporalOf } from './follow.ts'
import { reason } from './reason.ts'
import type { Session } from './session.ts'
import { card, formatTime, table } from './table.ts'
import { temporalFailure } from './temporal.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  pause?: string
  unpause?: string
  trigger?: boolean
}

export function schedule(program: Command): void {
  verb(program, {
    usage: 'schedule <dataset>',
    summary: 'when a dataset refreshes by itself: next and last runs; pauses, goes on, or runs now',
    examples: [
      ['snapflip schedule shop', 'next and last runs'],
      ['snapflip schedule shop --pause "supplier is migrating"', 'until --unpause; `hold` stops refreshes by hand too'],
      ['snapflip schedule shop --trigger', 'a run now, as the schedule makes it'],
    ],
    ends: ['FORBIDDEN'],
  })
    .option('--pause <reason>', 'no runs until --unpause', reason)
    .option('--unpause <reason>', 'runs again', reason)
    .option('--trigger', 'a run now')
    .action(act<Options, [string]>(run))
}

/** What a schedule of either kind can be asked. */
const BY_TIME = {
  state: scheduleState,
  pause: pauseSchedule,
  unpause: unpauseSchedule,
  trigger: triggerSchedule,
}
const CONTINUOUS: typeof BY_TIME = {
  state: continuousState,
  pause: pauseContinuous,
  unpause: unpauseContinuous,
  trigger: triggerContinuous,
}

async function run(session: Session, options: Options, dataset: string): Promise<Answer> {
  // What was applied is what runs.
  const { windows, schedule } = await session.appliedDataset(dataset)
  const way = schedule?.continuous === undefined ? BY_TIME : CONTINUOUS
  const client = await session.temporal()
  try {
    if ((await way.state(client, dataset)) === null) throw noSchedule(dataset)
    if (options.pause !== undefined)
      await way.pause(client, dataset, await recorded(session, dataset, 'schedule.paused', options.pause))
    if (options.unpause !== undefined)
      await way.unpause(client, dataset, await recorded(session, dataset, 'schedule.unpaused', options.unpause))
    let triggered: Triggered | null = null
    if (options.trigger) {
      await byWhom(session, { dataset, action: 'refresh', reason: 'triggered' })
      const ticket = await issueTicket(await session.registry(), triggering(dataset))
      triggered = await way.trigger(client, { dataset, ticket, taskQueue: (await session.config()).temporal.taskQueue })
    }
    const state = await way.state(client, dataset)
    if (state === null) throw noSchedule(dataset)
    const window = windows === undefined ? null : windowState(windows, new Date())
    return {
      json: { dataset, ...state, window, ...(triggered && { triggered }) },
      text: told(dataset, state, { window, triggered }),
    }
  } catch (error) {
    throw temporalFailure(error, await temporalOf(session))
  }
}

/** Who may hold a dataset may pause its schedule; who may refresh it, trigger it. @throws SnapflipError FORBIDDEN */
async function byWhom(session: Session, asked: Asked & { reason: string }): Promise<string> {
  const { actor } = await authorize(await session.registry(), asked)
  return `${actor}: ${asked.reason}`
}

/** Written before Temporal is told: of what was asked for in vain there may be an entry, never a pause without one. */
async function recorded(
  session: Session,
  dataset: string,
  kind: 'schedule.paused' | 'schedule.unpaused',
  reason: string,
): Promise<string> {
  const note = await byWhom(session, { dataset, action: 'hold', reason })
  await recordEvent(await session.registry(), { dataset, actor: null, kind, detail: { reason } })
  return note
}

function noSchedule(dataset: string): SnapflipError {
  return new SnapflipError(
    'NOT_APPLIED',
    `Expected a schedule of ${dataset}, found none. Give the dataset a \`schedule\` in the definition, then \`snapflip apply\`.`,
    { dataset },
  )
}

function told(
  dataset: string,
  { paused, next, last, doing }: ScheduleState,
  { window, triggered }: { window: WindowState | null; triggered: Triggered | null },
): string {
  const identity = card([
    ['schedule', dataset],
    ['paused', paused === null ? 'no' : `by ${paused}`],
    doing === undefined
      ? ['next', paused === null ? (formatTime(next[0] ?? null) ?? 'never') : 'not while it is paused']
      : ['next', paused === null ? `as soon as there is something new: ${doing}` : 'not while it is paused'],
    ...(window === null ? [] : [['windows', windowText(window)] as const]),
    ...(triggered === null ? [] : [['triggered', endText(triggered)] as const]),
  ])
  if (last.length === 0) return `${identity}\n\nNo runs yet.`
  const rows = last.map(({ at, status, summary }) => [formatTime(at), status, summary])
  return `${identity}\n\n${table(['run at', 'ended', 'found'], rows)}`
}

function endText({ status, summary }: Triggered): string {
  return [status, summary].filter((part) => part !== null).join(': ')
}

function windowText({ isOpen, changesAt }: WindowState): string {
  return `${isOpen ? 'open' : 'closed'}${changesAt === null ? '' : ` until ${formatTime(changesAt)}`}`
}
