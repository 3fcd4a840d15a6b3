import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import type { Where } from './corrupt.ts'
import { locationAt, pageCount, spanAt, treeDepth } from './page.ts'
import { type LiveSource, sourceName } from './sources.ts'
import { PAGE_BATCH, Tree } from './tree.ts'

/** Names (`generation/pack`) of what an incremental build should move into its own generation. */
export type RepackPlan = ReadonlySet<string>

/**
 * A version that draws on more sources than this gets its smallest ones moved together. Packs cost requests and dead bytes; where each
 * object is its own unit only the manifest's list of sources grows (about 100 bytes each).
 */
const SOURCES_MAX = { packs: 64, keys: 4096 }
/** What one refresh moves at most. */
const REPACK_BYTES_MAX = 64 << 20

/**
 * Which packs of a version the next incremental build should empty: when it draws on too many, the ones with the fewest live bytes,
 * until half of the limit is left. Packs that are mostly dead are among the first. Their other bytes become deletable when the
 * last version that uses them is retired.
 */
export function planRepack(
  layout: DataStore['layout'],
  manifest: Pick<Manifest, 'sources'>,
  limits: { sourcesMax?: number; bytesMax?: number } = {},
): RepackPlan {
  const plan = new Set<string>()
  const sourcesMax = limits.sourcesMax ?? SOURCES_MAX[layout]
  if (manifest.sources.length <= sourcesMax) return plan
  let budget = limits.bytesMax ?? REPACK_BYTES_MAX
  const smallestFirst: LiveSource[] = manifest.sources.toSorted((a, b) => a.bytes - b.bytes)
  for (const source of smallestFirst.slice(0, manifest.sources.length - Math.ceil(sourcesMax / 2))) {
    budget -= source.bytes
    if (budget < 0) break
    plan.add(sourceName(source))
  }
  return plan
}

/**
 * Blocks of an index that a repack touches: those that lie in the plan's packs, and one block of each page or node that does (writing
 * it anew writes its page and all nodes above). Ascending. Reads every location page.
 */
export async function repackBlocks(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  plan: RepackPlan,
): Promise<Uint32Array> {
  if (plan.size === 0) return new Uint32Array(0)
  const blocks = new Set<number>()
  const location = new Tree(data, 'location', index, where)
  const audit = new Tree(data, 'audit', index, where)
  for (let level = treeDepth(index.bits); level >= 0; level--) {
    const objects = Math.ceil(2 ** index.bits / spanAt(level))
    for (let from = 0; from < objects; from += PAGE_BATCH) {
      const positions = Array.from({ length: Math.min(PAGE_BATCH, objects - from) }, (_, i) => from + i)
      for (const tree of [location, audit])
        for (const [i, ref] of (await tree.refs(level, positions)).entries())
          if (plan.has(sourceName(ref))) blocks.add((from + i) * spanAt(level))
    }
  }
  for (let from = 0; from < pageCount(index.bits); from += PAGE_BATCH) {
    const pages = Array.from({ length: Math.min(PAGE_BATCH, pageCount(index.bits) - from) }, (_, i) => from + i)
    for (const page of await location.locationPages(pages))
      for (let row = 0; row < page.source.length; row++) {
        const at = locationAt(page, row)
        if (at !== null && plan.has(sourceName(at))) blocks.add(page.first + row)
      }
  }
  return Uint32Array.from(blocks).sort()
}
