import type { Pointer, VersionRef } from '../../schemas/pointer.ts'

/**
 * The pointer with these prohibitions, and with nothing left that offers such a version to readers or rollbacks: neither rollback target nor
 * candidate nor pin. The active one stays until something else is flipped to. On hold there is no candidate at all: nobody goes on with it.
 */
export function forbidding(
  pointer: Pointer,
  { quarantined, retired }: Pick<Pointer, 'quarantined' | 'retired'>,
): Pointer {
  const forbidden = ({ tag }: VersionRef) => quarantined.includes(tag) || retired.includes(tag)
  const { previous, candidate, pin, hold } = pointer
  return {
    ...pointer,
    previous: previous !== null && forbidden(previous) ? null : previous,
    candidate: candidate !== null && (hold !== null || forbidden(candidate.version)) ? null : candidate,
    pin: pin !== null && forbidden(pin.version) ? null : pin,
    quarantined: [...quarantined],
    retired: [...retired],
  }
}
