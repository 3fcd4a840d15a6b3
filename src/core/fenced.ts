import type { Epoch, Pointer, VersionRef } from '../../schemas/pointer.ts'
import { compareEpoch, formatEpoch } from './epoch.ts'
import type { ErrorDetails } from './errors.ts'
import { type ExpectedState, type Refusal, refused } from './pointer-change.ts'

/**
 * What keeps a version from being shown to readers: a flip, a rollback, a break-glass rollback and a canary alike. Null when nothing does.
 *
 * @param quarantined the quarantines there will be after the change.
 */
export function fenced(
  now: Pointer,
  change: { expected: ExpectedState; to: VersionRef; epoch: Epoch; allowHold: boolean; withoutRegistry: boolean },
  quarantined: readonly string[],
  ids: ErrorDetails,
): Refusal | null {
  const { dataset } = now
  const where = `Pointer of ${dataset} is at ${now.active?.tag ?? 'no version'} (epoch ${formatEpoch(now.epoch)})`
  const look = `see \`snapflip status ${dataset}\`.`
  const tag = change.to.tag
  const details = {
    dataset,
    activeTag: now.active?.tag ?? null,
    activeEpoch: formatEpoch(now.epoch),
    activeFlipId: now.flipId,
    ...ids,
    to: tag,
  }
  if (compareEpoch(change.epoch, now.epoch) <= 0) {
    return refused(
      'SUPERSEDED',
      `${where}, expected an epoch below ${formatEpoch(change.epoch)}. A later flip came first; ${look}`,
      { ...details, epoch: formatEpoch(change.epoch) },
    )
  }
  if (change.expected.tag !== (now.active?.tag ?? null) || compareEpoch(change.expected.epoch, now.epoch) !== 0) {
    const expected = `${change.expected.tag ?? 'no version'} (epoch ${formatEpoch(change.expected.epoch)})`
    return refused('CONFLICT', `${where}, expected ${expected}. Another flip came first; ${look}`, {
      ...details,
      expectedTag: change.expected.tag,
      expectedEpoch: formatEpoch(change.expected.epoch),
    })
  }
  if (now.breakGlass.length > 0 && !change.withoutRegistry) {
    const flipIds = now.breakGlass.map((entry) => entry.flipId)
    return refused(
      'UNABSORBED',
      `Pointer of ${dataset} holds ${flipIds.length} break-glass rollbacks that the registry has not absorbed, expected none. They are absorbed before the next flip; ${look}`,
      { ...details, flipIds },
    )
  }
  return forbiddenVersion(dataset, { tag, quarantined, retired: now.retired }, details) ?? onHold(now, change, details)
}

/** No flip, rollback, canary or pin goes to a version that is retired or quarantined. */
export function forbiddenVersion(
  dataset: string,
  { tag, quarantined, retired }: { tag: string; quarantined: readonly string[]; retired: readonly string[] },
  details: ErrorDetails,
): Refusal | null {
  const look = `\`snapflip versions ${dataset}\` lists them.`
  if (retired.includes(tag)) {
    return refused('VERSION_RETIRED', `${tag} of ${dataset} is retired, expected a retained version; ${look}`, details)
  }
  if (!quarantined.includes(tag)) return null
  return refused(
    'VERSION_QUARANTINED',
    `${tag} of ${dataset} is quarantined, expected a version that is not; ${look}`,
    details,
  )
}

function onHold({ dataset, hold }: Pointer, change: { allowHold: boolean }, details: ErrorDetails): Refusal | null {
  if (hold === null || change.allowHold) return null
  return refused(
    'ON_HOLD',
    `${dataset} is on hold by ${hold.by} (${hold.reason}), expected no hold. \`snapflip resume ${dataset}\` lifts it.`,
    { ...details, holdBy: hold.by, holdReason: hold.reason },
  )
}
