import { type Client, WorkflowFailedError, type WorkflowHandle } from '@temporalio/client'
import { CancelledFailure, TerminatedFailure } from '@temporalio/common'
import { expect, it } from 'vitest'
import { follow } from '../../src/cli/follow.ts'
import type { Session } from '../../src/cli/session.ts'

const failureOf = (cause: Error) =>
  follow(
    { json: true } as Session,
    { withDeadline: async () => Promise.reject(new Error('no worker')) } as unknown as Client,
    {
      workflowId: 'drill:shop',
      result: async () => Promise.reject(new WorkflowFailedError('it failed', cause, undefined as never)),
    } as unknown as WorkflowHandle,
  )

it('whoever follows what is terminated is told to look where readers are; what is cancelled has left them there', async () => {
  await expect(failureOf(new TerminatedFailure('terminated'))).rejects.toMatchObject({
    code: 'CANCELLED',
    message: 'drill:shop was terminated, and may have moved readers: `snapflip status` says where they are.',
  })
  await expect(failureOf(new CancelledFailure('cancelled'))).rejects.toMatchObject({
    code: 'CANCELLED',
    message: 'drill:shop was cancelled; readers are where they were.',
  })
})
