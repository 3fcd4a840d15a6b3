import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { formatEpoch } from './epoch.ts'
import { compareEpoch, tooNewToChange } from './pointer.ts'
import { type Refusal, refused } from './pointer-change.ts'

/** `behind`: that store lacks a version which the first one's pointer names. */
export type Followed = { outcome: 'follows'; pointer: Pointer } | { outcome: 'behind'; lacks: VersionRef } | Refusal

/**
 * What the pointer of a further store has to be, after the first store's: the same flips, holds, quarantines and epoch, with versions named by the
 * manifests that they have there. What it marked retired stays marked until it has swept it: readers hold leases in each store apart.
 *
 * @param own the further store's pointer as it is; null: it has none.
 * @param copyOf the version as it lies there; null: it does not.
 */
export function followedPointer(
  first: Pointer & { active: VersionRef },
  own: Pointer | null,
  copyOf: (tag: string) => VersionRef | null,
): Followed {
  const tooNew = own === null ? null : tooNewToChange(own)
  if (tooNew !== null) return tooNew
  if (own !== null && compareEpoch(own.epoch, first.epoch) > 0) {
    return refused(
      'CONFLICT',
      `Expected the pointer of ${first.dataset} at an epoch up to ${formatEpoch(first.epoch)}, that of its first store, found ${formatEpoch(own.epoch)} (${own.active?.tag ?? 'no version'}). ` +
        `Another registry publishes there, or the first store came back older; see \`snapflip status ${first.dataset}\`.`,
      { dataset: first.dataset },
    )
  }
  const active = copyOf(first.active.tag)
  if (active === null) return { outcome: 'behind', lacks: first.active }
  const candidate = first.candidate && copyOf(first.candidate.version.tag)
  const pinned = first.pin && copyOf(first.pin.version.tag)
  const pointer: Pointer = {
    ...first,
    active,
    previous: first.previous && copyOf(first.previous.tag),
    candidate: first.candidate && candidate && { ...first.candidate, version: candidate },
    pin: first.pin && pinned && { ...first.pin, version: pinned },
  }
  const inUse = [active, pointer.previous, candidate, pinned].map((ref) => ref?.tag)
  const leaving = first.retired.filter((tag) => copyOf(tag) !== null)
  const retired = [...new Set([...(own?.retired ?? []), ...leaving])].filter((tag) => !inUse.includes(tag))
  return { outcome: 'follows', pointer: { ...pointer, retired } }
}
