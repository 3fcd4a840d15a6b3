import { condition, defineUpdate, setHandler } from '@temporalio/workflow'
import type { AskedApproval } from '../activities/approval.ts'
import { standing } from './activities.ts'

/** Wakes a refresh that waits for an approval. It carries no decision: the registry has that. */
export const decidedUpdate = defineUpdate<void, [tag: string]>('decided')

/** A refresh's wait for a person's yes. */
export class Approval {
  #waitsFor: string | null = null
  #isWoken = false

  constructor() {
    setHandler(
      decidedUpdate,
      () => {
        this.#isWoken = true
      },
      { validator: (tag) => this.#requireWaiting(tag) },
    )
  }

  /**
   * Waits until somebody has decided, or nobody has for too long. Looks by itself too: whoever decides may not reach Temporal. How often is
   * the activity's to say, and bounded by it.
   *
   * @param tell what is waited for, each time it was looked at.
   */
  async of(asked: AskedApproval, tell: (summary: string) => void): Promise<{ isApproved: boolean; summary: string }> {
    this.#waitsFor = asked.version.tag
    try {
      for (;;) {
        // Before the look: who decides during it wakes what follows.
        this.#isWoken = false
        const { decision, summary, nextLookMs } = await standing.approval(asked)
        tell(summary)
        if (decision !== null) return { isApproved: decision === 'approved', summary }
        await condition(() => this.#isWoken, nextLookMs)
      }
    } finally {
      this.#waitsFor = null
    }
  }

  #requireWaiting(tag: string): void {
    if (this.#waitsFor === tag) return
    throw new Error(`expected an approval of ${tag} to be waited for, found ${this.#waitsFor ?? 'none'}`)
  }
}
