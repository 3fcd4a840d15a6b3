import { ApplicationFailure } from '@temporalio/workflow'
import { failureCode, failureMessage } from '../src/core/failure.ts'

/**
 * What a workflow ends with: code and message of what failed in an activity, which Temporal's UI would show as "Activity task failed".
 *
 * @param message where more is to be said than what failed.
 */
export function failed(error: unknown, message: string = failureMessage(error)): ApplicationFailure {
  return ApplicationFailure.create({
    type: failureCode(error) ?? 'INTERNAL',
    message,
    nonRetryable: true,
    cause: error as Error,
  })
}
