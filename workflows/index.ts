/** What the worker bundles: every export is a workflow type. */
export { refresh } from './refresh.ts'
export { rollback } from './rollback.ts'
