import { randomBytes } from 'node:crypto'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import type { FlipChange } from '../../src/core/pointer.ts'
import { NO_EPOCH } from '../../src/core/pointer.ts'

export function newGeneration(): string {
  return randomBytes(16).toString('hex')
}

export function tagOf(ordinal: number): string {
  return `v20260518-${String(ordinal).padStart(2, '0')}`
}

export function version(ordinal: number): VersionRef {
  const hash = ordinal.toString(16).padStart(64, '0')
  return { tag: tagOf(ordinal), ordinal, digest: hash, manifest: hash }
}

/** A flip from exactly this pointer to this version. */
export function flipFrom(pointer: Pointer | null, ordinal: number, flipId: string): FlipChange {
  const before = pointer?.epoch ?? NO_EPOCH
  return {
    kind: 'flip',
    flipId,
    expected: { tag: pointer?.active?.tag ?? null, epoch: before },
    to: version(ordinal),
    epoch: { registry: before.registry + 1, breakGlass: 0 },
    freshAsOf: null,
  }
}
