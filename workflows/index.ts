/** What the worker bundles: every export is a workflow type. */
export { bake } from './bake.ts'
export { continuous } from './continuous.ts'
export { drill } from './drill.ts'
export { flipTo } from './flip-to.ts'
export { refresh } from './refresh.ts'
export { rollback } from './rollback.ts'
export { scheduledRefresh, scheduledRun } from './scheduled-refresh.ts'
