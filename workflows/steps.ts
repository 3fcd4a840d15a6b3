import { defineQuery, setHandler, upsertSearchAttributes } from '@temporalio/workflow'
import type { RefreshProgress, RefreshStep } from '../schemas/refresh.ts'

export const progressQuery = defineQuery<RefreshProgress>('progress')

/** Follows a refresh through its steps: answers the `progress` query and takes each step's time (workflow time, in ms). */
export class Steps {
  readonly durationsMs: Record<string, number> = {}
  progress: RefreshProgress
  /** Set once the worker has said that the server knows our search attributes: an unknown one would fail the workflow task. */
  searchable = false

  constructor(refreshId: string) {
    this.progress = { step: 'plan', tag: null, refreshId, summary: 'opening the refresh' }
    setHandler(progressQuery, () => this.progress)
  }

  async take<T>(step: RefreshStep | 'compensate', summary: string, work: () => Promise<T>): Promise<T> {
    this.progress = { ...this.progress, step, summary }
    const begun = Date.now()
    try {
      return await work()
    } finally {
      this.durationsMs[step] = (this.durationsMs[step] ?? 0) + Date.now() - begun
    }
  }

  /** Puts what is known so far where the Temporal UI can search it. */
  tell(attributes: { snapflipDataset?: string; snapflipVersion?: string; snapflipOutcome?: string }): void {
    if (!this.searchable) return
    upsertSearchAttributes(Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, [value]])))
  }
}
