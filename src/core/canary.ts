import type { Pointer } from '../../schemas/pointer.ts'
import { fenced } from './fenced.ts'
import { already, applied, type CanaryChange, type ChangeOutcome, refused } from './pointer-change.ts'

/** Fenced as a flip is, and raises the epoch as one does: a flip that was planned without the canary finds the pointer changed. */
export function canary(now: Pointer, change: CanaryChange): ChangeOutcome {
  const { canaryId, version, share, salt, since, epoch } = change
  if (now.candidate?.canaryId === canaryId) return already(now)
  const refusal = fenced(now, { ...change, to: version, allowHold: false, withoutRegistry: false }, now.quarantined, {
    canaryId,
  })
  if (refusal !== null) return refusal
  if (now.active === null || now.active.tag === version.tag) {
    return refused(
      'CONFLICT',
      `Pointer of ${now.dataset} is at ${now.active?.tag ?? 'no version'}, expected an active version to compare ${version.tag} with.`,
      { dataset: now.dataset, canaryId, activeTag: now.active?.tag ?? null, tag: version.tag },
    )
  }
  return applied({ ...now, epoch, candidate: { version, share, salt, canaryId, since } })
}

export function ramp(now: Pointer, { canaryId, share }: { canaryId: string; share: number }): ChangeOutcome {
  const { candidate } = now
  if (candidate?.canaryId !== canaryId) {
    return refused(
      'CONFLICT',
      `Pointer of ${now.dataset} has ${candidate === null ? 'no canary' : `canary ${candidate.canaryId}`}, expected ${canaryId}. It ended; see \`snapflip status ${now.dataset}\`.`,
      { dataset: now.dataset, canaryId, found: candidate?.canaryId ?? null },
    )
  }
  return share <= candidate.share ? already(now) : applied({ ...now, candidate: { ...candidate, share } })
}
