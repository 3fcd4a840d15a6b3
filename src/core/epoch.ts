import type { Epoch } from '../../schemas/pointer.ts'

/** The epoch of a dataset that was never flipped. */
export const NO_EPOCH: Epoch = { registry: 0, breakGlass: 0 }

/** Negative, zero or positive, as a is lower than, equal to or higher than b. */
export function compareEpoch(a: Epoch, b: Epoch): number {
  return a.registry - b.registry || a.breakGlass - b.breakGlass
}

/** `8`, or `8+1779098400` after a break-glass rollback in that second (or a later one in the same). */
export function formatEpoch(epoch: Epoch): string {
  return epoch.breakGlass === 0 ? `${epoch.registry}` : `${epoch.registry}+${epoch.breakGlass}`
}
