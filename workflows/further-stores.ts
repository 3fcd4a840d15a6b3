import { ApplicationFailure, CancellationScope, isCancellation } from '@temporalio/workflow'
import type { VersionRef } from '../schemas/pointer.ts'
import type { ErrorCode } from '../src/core/errors.ts'
import { failureCode, failureMessage } from '../src/core/failure.ts'
import { copies, follows, quick } from './activities.ts'

/** Where a dataset is published beside its first store, in the declared order. */
export interface Published {
  names: string[]
  onFailure: 'rollback' | 'degrade'
}

/**
 * Copies the version to every further store. One that cannot have it is left behind; or the refresh fails, before readers anywhere are on it, where
 * that is declared. Returns where the version is now.
 */
export async function stageIn(
  dataset: string,
  { names, onFailure }: Published,
  version: VersionRef,
): Promise<Published> {
  const staged: string[] = []
  for (const store of names) {
    try {
      await copies().stage({ dataset, store, version })
      staged.push(store)
    } catch (error) {
      // What is not whole where it comes from is no fault of the store that it was copied to.
      if (onFailure === 'rollback' || isCancellation(error) || failureCode(error) === 'CORRUPT') throw error
      await leaveBehind(dataset, store, error)
    }
  }
  return { names: staged, onFailure }
}

/** One after another: each takes over what the first store says. Throws NOT_PUBLISHED for one that cannot, where that is to be rolled back. */
export async function followIn(dataset: string, { names, onFailure }: Published): Promise<void> {
  for (const store of names) {
    try {
      await CancellationScope.nonCancellable(() => follows.follow({ dataset, store }))
    } catch (error) {
      await leaveBehind(dataset, store, error)
      if (onFailure === 'rollback') throw notPublished(store, error)
    }
  }
}

/** As many as answer: nothing waits for the others. */
export async function followEach(dataset: string, names: readonly string[] = []): Promise<void> {
  await Promise.all(names.map((store) => followIn(dataset, { names: [store], onFailure: 'degrade' })))
}

function notPublished(store: string, error: unknown): ApplicationFailure {
  const code: ErrorCode = 'NOT_PUBLISHED'
  return ApplicationFailure.nonRetryable(`${store} cannot take the version over: ${failureMessage(error)}`, code)
}

async function leaveBehind(dataset: string, store: string, error: unknown): Promise<void> {
  await CancellationScope.nonCancellable(() => quick.degrade({ dataset, store, why: failureMessage(error) }))
}
