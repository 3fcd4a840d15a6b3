/** The histories that are recorded, and replayed against the workflows as they are. */
export const RECORDED = [
  'success',
  'refusal',
  'compensation',
  'compensation-rollback',
  'cancellation',
  'window-wait',
  'scheduled-refresh',
  'scheduled-run',
  'continuous',
] as const
export type Recorded = (typeof RECORDED)[number]
