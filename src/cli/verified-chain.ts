import type { Config } from '../../schemas/config.ts'
import type { Missing } from '../../schemas/incident.ts'
import type { Anchor, Contradicted } from '../../schemas/pointer.ts'
import { anchorsIn } from '../core/anchor.ts'
import { isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { acceptedAnchors, type KnownHead } from '../registry/accepted-anchors.ts'
import { contradictedAnchor } from '../registry/contradicted-anchor.ts'
import { type VerifiedHistory, verifyHistory } from '../registry/verify-history.ts'
import { openStore } from '../stores/open.ts'
import type { Session } from './session.ts'

/** Whether the chain verifies, and the anchors that it could not be compared with. */
export type VerifiedChain = { missing: Missing[] } & (
  | ({ verified: true; anchors: number } & VerifiedHistory)
  | { verified: false; error: SnapflipError; contradicted: StoredAnchor[] }
)

/** What a flip left of the chain in a store. */
interface StoredAnchor extends Anchor {
  dataset: string
  store: string
}

/**
 * Walks the whole chain and compares it with the anchors in the stores, of one dataset or of all, and with those that somebody noted elsewhere.
 *
 * @throws SnapflipError UNKNOWN_DATASET
 */
export async function verifiedChain(
  session: Session,
  { dataset, noted = [] }: { dataset?: string | undefined; noted?: readonly Anchor[] } = {},
): Promise<VerifiedChain> {
  const { datasets } = await session.config()
  const compare = dataset === undefined ? datasets : { [dataset]: await session.recordedDataset(dataset) }
  const registry = await session.registry()
  // Before the chain: an anchor written meanwhile would be ahead of what is read.
  const { anchors, missing } = await anchorsOf(session, compare)
  const compared = [...anchors, ...noted].map(headOf)
  try {
    return {
      verified: true,
      ...(await verifyHistory(registry, { anchors: compared })),
      anchors: compared.length,
      missing,
    }
  } catch (error) {
    if (!isSnapflipError(error, 'HISTORY_BROKEN')) throw error
    const contradicted: StoredAnchor[] = []
    const accepted = await acceptedAnchors(registry, compared)
    for (const { dataset, store, seq, hash } of anchors) {
      const isAccepted = accepted.some((anchor) => anchor.seq === seq && anchor.hash === hash)
      if (!isAccepted && (await contradictedAnchor(registry, { seq, hash })) !== null)
        contradicted.push({ dataset, store, seq, hash })
    }
    return { verified: false, error, contradicted, missing }
  }
}

const headOf = ({ seq, hash, acceptedBy }: Contradicted): KnownHead => ({ entries: seq, hash, acceptedBy })

/**
 * What every flip left of the chain in its stores, those among them that a later flip found contradicted: whoever rewrites or cuts the history in the
 * database does not reach these.
 */
async function anchorsOf(
  session: Session,
  datasets: Config['datasets'],
): Promise<{ anchors: Array<StoredAnchor & Contradicted>; missing: Missing[] }> {
  const { stores } = await session.config()
  const anchors: Array<StoredAnchor & Contradicted> = []
  const missing: Missing[] = []
  for (const [dataset, definition] of Object.entries(datasets)) {
    for (const name of definition.stores) {
      try {
        const store = await openStore(stores[name] ?? '', { dataset })
        session.onClose(() => store.close())
        const pointer = (await store.pointer.read())?.pointer
        const left = pointer === undefined ? [] : anchorsIn(pointer)
        anchors.push(...left.map((anchor) => ({ dataset, store: name, ...anchor })))
      } catch (error) {
        if (!isSnapflipError(error)) throw error
        missing.push({ part: `the anchor of ${dataset} in ${name}`, why: error.message })
      }
    }
  }
  return { anchors, missing }
}
