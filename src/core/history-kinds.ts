import type { AlertKind } from '../../schemas/alerts.ts'
import type { VersionState } from './version-state.ts'

type MoveKind = 'flip' | 'rollback' | 'drill'
type MoveStep = 'intended' | 'confirmed' | 'refused' | 'failed'

interface Declared {
  says: string
  /** Fields of its detail; those that end with ? are not always there. Ids, counts and reasons: never rows. */
  detail: readonly string[]
}

const UNREACHED = ['building', 'candidate'] as const
/** A state that is reached by a decision about the version itself, with why; others have the kind of what brought them. */
export type DecidedState = Exclude<VersionState, (typeof UNREACHED)[number]>

/** All that the history records: `docs/history.md` lists it, and the type of an entry allows nothing else. */
export type HistoryKind = Exclude<keyof typeof HISTORY_KINDS, 'alert.*'> | `alert.${Lowercase<AlertKind>}`

const MOVED = ['flipId', 'from', 'to', 'epoch', 'detail', 'reason?', 'quarantined?', 'hold?', 'overtaken?'] as const
const INTENDED = ['flipId', 'from', 'to', 'epoch', 'reason', 'refreshId', 'approvalId?', 'bakeUntil?'] as const
const ASKED = ['approvalId', 'refreshId'] as const
const COMPARED = ['canaryId', 'refreshId', 'verdict', 'summary', 'actual', 'limit', 'waived?'] as const
const WATCHED = ['flipId', 'summary?', 'verdict?', 'actual?', 'limit?', 'findings?'] as const

/** What each kind says, in the order in which a dataset meets them. */
export const HISTORY_KINDS = {
  'definition.applied': { says: 'A policy version came into force', detail: ['number', 'digest'] },
  'capture.attached': { says: 'Triggers were put on tables', detail: ['tables', 'refreshId?'] },
  'capture.removed': { says: 'They were taken off tables that nothing reads any more', detail: ['tables'] },
  'capture.detached': { says: 'The dataset was detached', detail: ['tables', 'kept'] },
  'store.applied': {
    says: 'The dataset is in this store from now on',
    detail: ['store', 'movedFrom', 'holdsActive', 'isCopied'],
  },
  'stores.applied': { says: 'Further stores came or went', detail: ['added', 'removed'] },
  'action.refused': {
    says: 'Somebody was not let: what, which role it wants and which they have, or what else spoke against it',
    detail: ['action', 'needed?', 'has?', 'policy?', 'why?', 'found?', 'reason?', 'decision?', 'approvalId?'],
  },
  'refresh.opened': {
    says: 'A refresh began',
    detail: [
      'refreshId',
      'workflowId',
      'runId',
      'reason',
      'full',
      'policy',
      'policyDigest',
      'snapflip',
      'outsideWindow?',
    ],
  },
  'refresh.skipped': { says: 'A scheduled run did not refresh', detail: ['reason', 'workflowId', 'refreshId'] },
  'refresh.cancelled': { says: 'Somebody asked for its end', detail: ['refreshId', 'reason?'] },
  'refresh.closed': { says: 'A refresh ended', detail: ['refreshId', 'status', 'summary', 'retired'] },
  'version.allocated': { says: 'A tag was given to what will be built', detail: ['refreshId', 'ordinal'] },
  'build.begun': {
    says: 'An attempt at writing began',
    detail: ['refreshId', 'index', 'attempt', 'generation', 'store', 'parent'],
  },
  'build.swept': { says: 'What an attempt had written is gone', detail: ['generation', 'store'] },
  'version.sealed': {
    says: 'A version is whole; with `why`, a held one was let pass',
    detail: ['refreshId?', 'digest?', 'manifestSha256?', 'parent?', 'generation?', 'watermark?', 'from?', 'why?'],
  },
  'version.reopened': { says: 'A later refresh took up what an earlier one had sealed', detail: ['from', 'refreshId'] },
  'version.held': { says: 'A gate wants a person', detail: ['from', 'why'] },
  'version.rejected': { says: 'A gate or a person refused it', detail: ['from', 'why'] },
  'version.active': { says: 'It is active by what its store says', detail: ['from', 'why'] },
  'version.retained': { says: 'Readers were on it, by what its store says', detail: ['from', 'why'] },
  'version.quarantined': { says: 'It is forbidden, by what its store says', detail: ['from', 'why'] },
  'version.retired': { says: 'Nothing needs it any more', detail: ['from', 'why'] },
  'version.swept': { says: 'Nothing of it is left in the store', detail: ['from', 'why'] },
  'version.adopted': {
    says: 'A registry that did not know it found it in the store',
    detail: ['state', 'why', 'store', 'digest', 'manifestSha256'],
  },
  'version.copied': { says: 'A further store has it', detail: ['store', 'from', 'manifestSha256', 'generation'] },
  'version.restored': {
    says: 'A store that had lost it got it back from another, or had it all along',
    detail: ['store', 'from', 'manifestSha256', 'before', 'generation'],
  },
  'copy.gone': { says: 'A further store has it no longer', detail: ['store', 'why'] },
  'gates.judged': { says: 'The gates looked at a version', detail: ['refreshId', 'verdict', 'results'] },
  'gate.waived': { says: 'A person lets it pass one gate', detail: ['waiver', 'gate', 'until', 'reason'] },
  'approval.requested': { says: 'It waits for a person', detail: [...ASKED, 'reason', 'digest', 'manifest'] },
  'approval.carried': {
    says: 'A yes to what a window kept counts for the refresh that took it up',
    detail: [...ASKED, 'reason'],
  },
  'approval.approved': { says: 'A person said yes', detail: [...ASKED, 'reason', 'digest', 'manifest', 'requestedBy'] },
  'approval.rejected': { says: 'A person said no', detail: [...ASKED, 'reason', 'digest', 'manifest', 'requestedBy'] },
  'approval.expired': { says: 'Nobody answered in time', detail: [...ASKED, 'requestedBy'] },
  'approval.withdrawn': { says: 'Its refresh ended before anybody answered', detail: [...ASKED, 'requestedBy'] },
  'canary.begun': {
    says: 'A share of the readers is to get it',
    detail: ['canaryId', 'refreshId', 'epoch', 'share', 'forMs'],
  },
  'canary.ramped': { says: 'A larger share gets it', detail: ['canaryId', 'from', 'to'] },
  'canary.passed': { says: 'Its readers fared no worse', detail: COMPARED },
  'canary.refused': { says: 'Its readers fared worse', detail: COMPARED },
  'canary.ended': { says: 'It ended without a verdict', detail: ['canaryId', 'why'] },
  'flip.intended': { says: 'A flip has its epoch; the store is not touched yet', detail: INTENDED },
  'flip.confirmed': { says: 'Readers are on the version, as read from the store', detail: MOVED },
  'flip.refused': { says: 'The pointer did not take it', detail: MOVED },
  'flip.failed': { says: 'It was never made', detail: MOVED },
  'rollback.intended': { says: 'A rollback has its epoch', detail: INTENDED },
  'rollback.confirmed': { says: 'Readers are back; what they left is quarantined, the dataset on hold', detail: MOVED },
  'rollback.refused': { says: 'The pointer did not take it', detail: MOVED },
  'rollback.failed': { says: 'It was never made', detail: MOVED },
  'rollback.absorbed': {
    says: 'One that was made without the registry (break-glass) is known to it',
    detail: ['flipId', 'from', 'to', 'epoch', 'reason', 'at', 'rebound', 'store'],
  },
  'bake.passed': { says: 'A version was healthy for as long as it was watched', detail: WATCHED },
  'bake.failed': { says: 'It was beyond its limits, or did not read back after its flip', detail: WATCHED },
  'bake.unwatched': { says: 'It could not be watched to the end', detail: WATCHED },
  'drill.begun': { says: 'A rehearsal began', detail: ['drillId', 'from', 'to', 'reason'] },
  'drill.intended': { says: 'A move of a drill has its epoch', detail: INTENDED },
  'drill.confirmed': { says: 'It was made', detail: MOVED },
  'drill.refused': { says: 'The pointer did not take it', detail: MOVED },
  'drill.failed': { says: 'It was never made', detail: MOVED },
  'drill.cancelled': { says: 'Somebody asked for its end while it was at work', detail: ['drillId', 'reason?'] },
  'drill.ended': {
    says: 'A rehearsal ended, with the milliseconds it took',
    detail: ['drillId', 'from', 'to', 'outcome', 'times', 'summary'],
  },
  'schedule.paused': { says: 'No scheduled runs, nor continuous ones, from now on', detail: ['reason'] },
  'schedule.unpaused': { says: 'They run again', detail: ['reason'] },
  hold: { says: 'Refreshes are paused', detail: ['reason', 'at', 'replaces?', 'by?', 'why?'] },
  resume: { says: 'They go on', detail: ['reason', 'kept?'] },
  quarantine: { says: 'No flip goes to the version any more', detail: ['reason', 'from?'] },
  release: { says: 'It may be flipped to again', detail: ['reason'] },
  pin: { says: 'Readers stay on the version', detail: ['until', 'reason', 'replaces?'] },
  unpin: { says: 'They follow the pointer again', detail: ['reason'] },
  'epoch.raised': { says: 'A store had a higher epoch than was issued', detail: ['from', 'to'] },
  'store.followed': { says: 'A further store is where the first one is', detail: ['store', 'name', 'flipId'] },
  'store.degraded': { says: 'It could not be brought there', detail: ['store', 'name', 'why'] },
  'anchor.accepted': {
    says: 'A person knows why the history does not lead to an end that a flip left of it',
    detail: ['seq', 'hash', 'found', 'reason'],
  },
  'alert.*': {
    says: 'An alert was raised, by its kind in lower case; its evidence is in the detail (docs/alerts.md)',
    detail: ['summary', 'incident', 'alert'],
  },
} as const satisfies Record<`${MoveKind}.${MoveStep}` | `version.${DecidedState}` | 'alert.*', Declared> &
  Record<string, Declared>

/** Whether `history --kind` finds anything by it: a kind, or the part before its dot. */
export function isKindOrGroup(text: string): boolean {
  return (
    Object.keys(HISTORY_KINDS).some((kind) => kind === text || kind.startsWith(`${text}.`)) ||
    /^alert\.[a-z_]+$/.test(text)
  )
}
