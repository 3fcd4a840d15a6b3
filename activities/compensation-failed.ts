import { recordEvent } from '../src/registry/record.ts'
import type { Deps } from './deps.ts'
import { asActivity } from './failure.ts'

/** A compensation that did not work is itself reported: what it left behind stays until the next one. */
export const compensationFailed =
  (deps: Deps) =>
  ({ dataset, summary }: { dataset: string; summary: string }): Promise<void> =>
    asActivity(async () => {
      deps.alert({ kind: 'COMPENSATION_FAILED', dataset, version: null, summary })
      await recordEvent(deps.pool, { dataset, actor: null, kind: 'alert.compensation_failed', detail: { summary } })
    })
