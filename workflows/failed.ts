import { ApplicationFailure } from '@temporalio/workflow'
import { failureCode, failureMessage } from '../src/core/failure.ts'

/** What a workflow ends with: code and message of what failed in an activity, which Temporal's UI would show as "Activity task failed". */
export function failed(error: unknown): ApplicationFailure {
  return ApplicationFailure.create({
    type: failureCode(error) ?? 'INTERNAL',
    message: failureMessage(error),
    nonRetryable: true,
    cause: error as Error,
  })
}
