import { SnapflipError } from '../core/errors.ts'
import { appliedStore } from '../registry/applied-store.ts'
import { furtherStores } from '../registry/further-stores.ts'
import type { Db } from '../registry/transaction.ts'
import type { Store } from '../stores/ports.ts'
import { reportsOfLate, THERE_MS } from '../stores/reports-of-late.ts'
import type { Session } from './session.ts'

/**
 * Nobody reads the dataset where the registry knows it is published: no lease of a reader, no report of late. A store that this file does not name
 * any more cannot be asked, which says nothing of its readers.
 *
 * @param would what is about to be done, which wants `--force` where they do.
 * @throws SnapflipError USAGE naming them, and what a store that cannot be looked at throws.
 */
export async function requireNoReaders(session: Session, registry: Db, dataset: string, would: string): Promise<void> {
  const known = await storesOfFile(session, dataset)
  const found: string[] = []
  for (const url of await publishedTo(registry, dataset)) {
    const store = known.get(url)
    const there =
      store === undefined ? ['this file has no such store, so that it cannot be asked'] : await readersOf(store)
    if (there.length > 0) found.push(`in ${url}: ${there.join(', ')}`)
  }
  if (found.length === 0) return
  throw new SnapflipError(
    'USAGE',
    `Expected nobody to read ${dataset} any more, or --force: ${would}, and its readers would go on with what grows old, found ${found.join('; ')}. ` +
      `Nothing was changed. Stop them first (one that has ended is seen for up to ${THERE_MS / 1000} s), or add --force when it is meant.`,
    { dataset, found },
  )
}

/** Without credentials, as stores themselves say it. */
async function publishedTo(registry: Db, dataset: string): Promise<string[]> {
  const { url } = await appliedStore(registry, dataset)
  const further = (await furtherStores(registry, dataset)).filter(({ state }) => state !== 'removed')
  return [...(url === null ? [] : [url]), ...further.map(({ store }) => store)]
}

/** Opened by their address: under which name the dataset had them may have changed. */
async function storesOfFile(session: Session, dataset: string): Promise<Map<string, Store>> {
  const { openStore } = await import('../stores/open.ts')
  const stores = new Map<string, Store>()
  for (const url of Object.values((await session.config()).stores)) {
    const store = await openStore(url, { dataset })
    session.onClose(() => store.close())
    stores.set(store.url, store)
  }
  return stores
}

async function readersOf(store: Store): Promise<string[]> {
  const leases = (await store.leases.list())
    .filter(({ kind }) => kind === 'reader')
    .map(({ id, tag, expiresAt }) => `lease ${id} on ${tag ?? 'a version'} until ${expiresAt.toISOString()}`)
  const seen = new Map<string, string>()
  for (const { flipId } of (await store.pointer.read())?.pointer.flips ?? [])
    for (const { readerId, tag } of await reportsOfLate(store, flipId)) if (!seen.has(readerId)) seen.set(readerId, tag)
  return [...leases, ...[...seen].map(([readerId, tag]) => `reader ${readerId}, which reports from ${tag}`)]
}
