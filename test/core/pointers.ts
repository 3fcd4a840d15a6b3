import type { Epoch, Hold, Pointer, VersionRef } from '../../schemas/pointer.ts'
import {
  applyChange,
  type BreakGlassChange,
  type CanaryChange,
  type ChangeOutcome,
  emptyPointer,
  type FlipChange,
  type PointerChange,
} from '../../src/core/pointer.ts'

export const DATASET = 'shop'
export const AT = '2026-05-18T10:00:00Z'
export const HOLD: Hold = { by: 'ann', reason: 'prices are wrong', at: AT }

export const tagOf = (ordinal: number) => `v20260518-${String(ordinal).padStart(2, '0')}`
export const version = (ordinal: number): VersionRef => ({
  tag: tagOf(ordinal),
  ordinal,
  digest: ordinal.toString(16).padStart(64, '0'),
  manifest: ordinal.toString(16).padStart(64, 'f'),
})
export const epoch = (registry: number, breakGlass = 0): Epoch => ({ registry, breakGlass })

/** A pointer after flips to these ordinals, one epoch each. */
export function flipped(...ordinals: number[]): Pointer {
  let pointer = emptyPointer(DATASET)
  for (const ordinal of ordinals) pointer = changed(pointer, flipFrom(pointer, ordinal))
  return pointer
}

/** What a change that expects exactly this pointer expects. */
const expectedOf = (pointer: Pointer) => ({ tag: pointer.active?.tag ?? null, epoch: pointer.epoch })

/** A flip that expects exactly this pointer. */
export function flipFrom(pointer: Pointer, ordinal: number, more: Partial<FlipChange> = {}): FlipChange {
  const registry = pointer.epoch.registry + 1
  return {
    kind: 'flip',
    flipId: `flip-${registry}`,
    expected: expectedOf(pointer),
    to: version(ordinal),
    epoch: epoch(registry),
    freshAsOf: null,
    ...more,
  }
}

export function rollbackFrom(pointer: Pointer, ordinal: number): FlipChange {
  return flipFrom(pointer, ordinal, {
    allowHold: true,
    also: { hold: HOLD, quarantine: pointer.active ? [pointer.active.tag] : [] },
  })
}

export function canaryFrom(pointer: Pointer, ordinal: number, more: Partial<CanaryChange> = {}): CanaryChange {
  const registry = pointer.epoch.registry + 1
  return {
    kind: 'canary',
    canaryId: `canary-${registry}`,
    expected: expectedOf(pointer),
    version: version(ordinal),
    share: 0.1,
    salt: 'salt',
    since: AT,
    epoch: epoch(registry),
    ...more,
  }
}

export function breakGlassFrom(
  pointer: Pointer,
  ordinal: number,
  more: Partial<BreakGlassChange> = {},
): BreakGlassChange {
  const { registry, breakGlass } = pointer.epoch
  return {
    kind: 'breakGlass',
    flipId: `glass-${registry}-${breakGlass + 1}`,
    expected: { tag: pointer.active?.tag ?? tagOf(99), epoch: pointer.epoch },
    to: version(ordinal),
    freshAsOf: null,
    by: 'ann',
    reason: 'prices are wrong',
    at: AT,
    rebound: false,
    ...more,
  }
}

export function pointerOf(outcome: ChangeOutcome): Pointer {
  if (outcome.outcome === 'refused') throw new Error(outcome.message)
  return outcome.pointer
}

/** The pointer after changes, none of which is refused. */
export function changed(pointer: Pointer, ...changes: PointerChange[]): Pointer {
  return changes.reduce((now, change) => pointerOf(applyChange(now, change, DATASET)), pointer)
}

/** `applied`, `already`, or the code of the refusal. */
export function outcomeOf(pointer: Pointer | null, change: PointerChange): string {
  const outcome = applyChange(pointer, change, DATASET)
  return outcome.outcome === 'refused' ? outcome.code : outcome.outcome
}
