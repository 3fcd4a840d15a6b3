import type { ErrorCode } from '../src/core/errors.ts'
import { afterFailure as decide } from '../src/core/retries.ts'
import { lastGoodRefresh } from '../src/registry/last-good-refresh.ts'
import { type Deps, datasetOf } from './deps.ts'
import { asActivity } from './failure.ts'
import { definitionOf } from './under-policy.ts'

export interface FailedRefresh {
  dataset: string
  code: ErrorCode | null
  message: string
  /** 1 for the first. */
  attempt: number
}

/** Whether a refresh that nobody had asked for is tried again, and after how long; null: it is not, and those are told who shall be. */
export const afterFailure =
  (deps: Deps) =>
  ({ dataset, code, message, attempt }: FailedRefresh): Promise<{ retryInMs: number | null }> =>
    asActivity(async () => {
      // A registry that is down may be why it failed: that is told all the same, as far as the file says whom.
      const { retries } = await definitionOf(deps, dataset).catch(() => datasetOf(deps.config, dataset))
      const next = decide(retries, { code, attempt })
      if (next.retryInMs !== null) {
        deps.log.warn({ dataset, step: 'retry', code, attempt, retryInMs: next.retryInMs }, message)
        return { retryInMs: next.retryInMs }
      }
      // One incident from the last refresh that did not fail to the next one, however many do in between.
      const since = await lastGoodRefresh(deps.pool, dataset).catch(() => 'unknown, the registry did not answer')
      await deps.alert({
        kind: 'REFRESH_FAILING',
        dataset,
        version: null,
        incident: `since ${since ?? 'the beginning'}`,
        summary: `the refresh of ${dataset} failed (${code ?? 'INTERNAL'}) and is not tried again now: ${next.why}. ${message}`,
        evidence: { code, attempts: attempt },
        ...(retries?.tell === undefined ? {} : { sinks: retries.tell }),
      })
      return { retryInMs: null }
    })
