import type { IndexManifest } from '../../schemas/manifest.ts'
import { isSnapflipError, SnapflipError } from '../core/errors.ts'
import { own } from '../core/own.ts'
import { readersOn } from '../core/readers-on.ts'
import type { Pin } from '../reader/pin.ts'
import type { Session } from './session.ts'
import { unknownVersion } from './unknown-version.ts'

/**
 * A pin on a version (the active one unless a tag is given) through the reader SDK, so that what is printed is what readers get.
 *
 * @throws SnapflipError UNKNOWN_DATASET, UNKNOWN_VERSION and UNKNOWN_INDEX, each with those that there are.
 */
export async function readerOf(
  session: Session,
  dataset: string,
  { index, tag, store }: { index: string; tag: string | undefined; store?: string | undefined },
): Promise<{ pin: Pin; definition: IndexManifest }> {
  const { url } = await session.storeUrl(dataset, store)
  const { open } = await import('../reader/open.ts')
  // What is read here by hand is no reader's vote.
  const reader = await open(url, dataset, { start: 'fail', reportMs: 0 })
  session.onClose(() => reader.close())
  // Not by chance the candidate of a canary, as another reader may.
  const pointer = (await (await session.store(dataset)).pointer.read())?.pointer
  const named = tag ?? (pointer === undefined ? null : readersOn(pointer, Date.now()))?.tag
  const pin = await reader.pin(named === undefined ? {} : { version: named }).catch(async (error: unknown) => {
    if (tag === undefined || !isSnapflipError(error, 'UNKNOWN_VERSION')) throw error
    throw unknownVersion(dataset, tag, await (await session.store(dataset, store)).data.listManifests())
  })
  const definition = own(pin.manifest.indexes, index)
  if (definition === undefined) throw unknownIndex(dataset, pin.version.tag, index, Object.keys(pin.manifest.indexes))
  return { pin, definition }
}

export function unknownIndex(dataset: string, tag: string, index: string, known: readonly string[]): SnapflipError {
  return new SnapflipError(
    'UNKNOWN_INDEX',
    `Expected an index of ${dataset} at ${tag} (${known.join(', ')}), found ${JSON.stringify(index)}.`,
    { dataset, tag, index, known },
  )
}
