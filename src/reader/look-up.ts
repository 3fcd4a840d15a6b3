import type { Location } from '../../schemas/manifest.ts'
import { blockOf, hashKey } from '../snapshot/hash.ts'
import { type LocationPage, locationAt } from '../snapshot/page.ts'
import type { OpenIndex, OpenVersion } from './version.ts'

/** Takes what was asked for out of a block's entries. An index with nothing in that bucket gives an empty buffer. */
export type Take<R> = (raw: Buffer, key: Buffer, index: OpenIndex, cached: boolean) => R

const NO_ENTRIES = Buffer.alloc(0)

/** One key in one version: one read of the store when its page is cached and its block is not. Throws MissingObject, or CORRUPT. */
export function lookUp<R>(version: OpenVersion, index: OpenIndex, key: Buffer, take: Take<R>): R | Promise<R> {
  const block = blockOf(hashKey(key, 0, key.length, index.seed), index.bits)
  const page = version.source.tree.cachedPage(index.root, block)
  return page === null ? lookUpCold(version, index, key, block, take) : lookUpIn(page, version, index, key, block, take)
}

async function lookUpCold<R>(
  version: OpenVersion,
  index: OpenIndex,
  key: Buffer,
  block: number,
  take: Take<R>,
): Promise<R> {
  const page = await version.source.tree.fetchPage(index.rootRef, block)
  return lookUpIn(page, version, index, key, block, take)
}

function lookUpIn<R>(
  page: LocationPage,
  version: OpenVersion,
  index: OpenIndex,
  key: Buffer,
  block: number,
  take: Take<R>,
): R | Promise<R> {
  const row = block - page.first
  const location = locationAt(page, row)
  if (location === null) return take(NO_ENTRIES, key, index, true)
  const { blocks } = version.source
  const cached = blocks.cached(location)
  if (cached !== null) return take(cached, key, index, true)
  // Not async: two promises fewer on the path that every warm get takes.
  return blocks.fetch([location]).then((stored) => {
    const raw = blocks.open(stored[0], location, page.checksum[row] as bigint, block, index.where)
    return take(raw, key, index, false)
  })
}

/** Many keys in one version, their blocks in one read, each block once. */
export async function lookUpAll<R>(
  version: OpenVersion,
  index: OpenIndex,
  keys: readonly Buffer[],
  take: Take<R>,
): Promise<R[]> {
  const { tree, blocks } = version.source
  const blockNumbers = keys.map((key) => blockOf(hashKey(key, 0, key.length, index.seed), index.bits))
  const pages = await pagesOf(version, index, blockNumbers)
  const opened = new Map<number, { raw: Buffer; cached: boolean }>()
  const missing: Array<{ block: number; location: Location; checksum: bigint }> = []
  for (const block of new Set(blockNumbers)) {
    const page = pages.get(tree.pageNumber(block)) as LocationPage
    const location = locationAt(page, block - page.first)
    const raw = location === null ? NO_ENTRIES : blocks.cached(location)
    if (raw !== null) opened.set(block, { raw, cached: true })
    else if (location !== null) missing.push({ block, location, checksum: page.checksum[block - page.first] as bigint })
  }
  if (missing.length > 0) {
    const stored = await blocks.fetch(missing.map(({ location }) => location))
    for (const [at, { block, location, checksum }] of missing.entries())
      opened.set(block, { raw: blocks.open(stored[at], location, checksum, block, index.where), cached: false })
  }
  return keys.map((key, at) => {
    const { raw, cached } = opened.get(blockNumbers[at] as number) as { raw: Buffer; cached: boolean }
    return take(raw, key, index, cached)
  })
}

async function pagesOf(
  version: OpenVersion,
  index: OpenIndex,
  blockNumbers: readonly number[],
): Promise<Map<number, LocationPage>> {
  const { tree } = version.source
  const pages = new Map<number, LocationPage>()
  const cold = new Map<number, Promise<LocationPage>>()
  for (const block of blockNumbers) {
    const number = tree.pageNumber(block)
    if (pages.has(number) || cold.has(number)) continue
    const page = tree.cachedPage(index.root, block)
    if (page === null) cold.set(number, tree.fetchPage(index.rootRef, block))
    else pages.set(number, page)
  }
  // All of them, so that none is left to fail unheard.
  const fetched = await Promise.allSettled(cold.values())
  for (const [at, number] of [...cold.keys()].entries()) {
    const result = fetched[at] as PromiseSettledResult<LocationPage>
    if (result.status === 'rejected') throw result.reason
    pages.set(number, result.value)
  }
  return pages
}
