import { isSnapflipError } from '../core/errors.ts'
import { type HistoryHead, verifyHistory } from '../registry/verify-history.ts'
import { openStore } from '../stores/open.ts'
import type { Session } from './session.ts'

export interface VerifiedChain extends HistoryHead {
  /** How many anchors it was compared with. */
  anchors: number
}

/**
 * Walks the whole chain and compares it with the anchors in the stores: of one dataset, or of all. A store that does not answer is said to be left
 * out.
 *
 * @throws SnapflipError HISTORY_BROKEN naming the first bad entry; UNKNOWN_DATASET.
 */
export async function verifiedChain(session: Session, dataset?: string): Promise<VerifiedChain> {
  if (dataset !== undefined) await session.dataset(dataset)
  const registry = await session.registry()
  // Before the chain: an anchor written meanwhile would be ahead of what is read.
  const anchors = await anchorsOf(session, dataset)
  return { ...(await verifyHistory(registry, { anchors })), anchors: anchors.length }
}

/** What every flip left of the chain in its stores: whoever rewrites or cuts the history in the database does not reach these. */
async function anchorsOf(session: Session, only: string | undefined): Promise<HistoryHead[]> {
  const { datasets, stores } = await session.config()
  const anchors: HistoryHead[] = []
  for (const [dataset, definition] of Object.entries(datasets)) {
    if (only !== undefined && dataset !== only) continue
    for (const name of definition.stores) {
      try {
        const store = await openStore(stores[name] ?? '', { dataset })
        session.onClose(() => store.close())
        const anchor = (await store.pointer.read())?.pointer.anchor ?? null
        if (anchor !== null) anchors.push({ entries: anchor.seq, hash: anchor.hash })
      } catch (error) {
        if (!isSnapflipError(error)) throw error
        session.note(`Not compared with the anchor of ${dataset} in ${name}: ${error.message}`)
      }
    }
  }
  return anchors
}
