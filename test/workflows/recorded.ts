/** The histories that are recorded, and replayed against the workflows as they are. */
export const RECORDED = ['success', 'refusal', 'compensation', 'compensation-rollback', 'cancellation'] as const
export type Recorded = (typeof RECORDED)[number]
