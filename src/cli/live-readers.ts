import type { DatasetDefinition } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'
import type { Store } from '../stores/ports.ts'
import type { Session } from './session.ts'

/**
 * No reader holds a lease on a version of the dataset, in those of its stores that this file names. Readers that never pin are not seen: what they
 * reported of late may be of one that has ended.
 *
 * @param would what is about to be done, which wants `--force` where they do.
 * @throws SnapflipError USAGE naming them, and what a store that cannot be looked at throws.
 */
export async function requireNoReaders(
  session: Session,
  dataset: string,
  definition: Pick<DatasetDefinition, 'stores'>,
  would: string,
): Promise<void> {
  const { stores } = await session.config()
  const { openStore } = await import('../stores/open.ts')
  const found: string[] = []
  for (const name of definition.stores) {
    const url = stores[name]
    if (url === undefined) continue
    const store = await openStore(url, { dataset })
    session.onClose(() => store.close())
    const there = await readersOf(store)
    if (there.length > 0) found.push(`in ${name}: ${there.join(', ')}`)
  }
  if (found.length === 0) return
  throw new SnapflipError(
    'USAGE',
    `Expected nobody to read ${dataset} any more, or --force: ${would}, and its readers would go on with what grows old, found ${found.join('; ')}. ` +
      'Nothing was changed. Stop them first, or add --force when it is meant.',
    { dataset, found },
  )
}

async function readersOf(store: Store): Promise<string[]> {
  return (await store.leases.list())
    .filter(({ kind }) => kind === 'reader')
    .map(({ id, tag, expiresAt }) => `lease ${id} on ${tag ?? 'a version'} until ${expiresAt.toISOString()}`)
}
