import type { IndexManifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import { corrupt, type Where } from './corrupt.ts'
import { type LocationPage, locationAt } from './page.ts'
import { differingRefs, PAGE_BATCH, sameObject, Tree } from './tree.ts'

/** Pages whose rows are compared at a time. */
const PAGES = 16

/** Of two indexes, whether their pages can be compared position by position. */
export function sharesLayout(index: IndexManifest, since: IndexManifest): boolean {
  return index.bits === since.bits && index.seed === since.seed && index.kind === since.kind
}

/** Reads every page and node that the index does not share with `since`, each checked against what its parent says of it. Throws CORRUPT. */
export async function requireTrees(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  since: IndexManifest,
): Promise<void> {
  for (const kind of ['location', 'audit'] as const) {
    const tree = new Tree(data, kind, index, where)
    const pages: number[] = []
    // Walking down reads the nodes; pages are read here.
    for await (const { level, position } of differingRefs(tree, new Tree(data, kind, since, where)))
      if (level === 0) pages.push(position)
    for (let from = 0; from < pages.length; from += PAGE_BATCH) {
      const batch = pages.slice(from, from + PAGE_BATCH)
      if (kind === 'location') await tree.locationPages(batch)
      else await tree.auditPages(batch)
    }
  }
}

/** Up to about `max` blocks that the index does not share with `since` and that have entries. */
export async function writtenBlocks(
  data: DataStore,
  where: Where,
  index: IndexManifest,
  since: IndexManifest,
  max: number,
): Promise<number[]> {
  const [tree, former] = [new Tree(data, 'location', index, where), new Tree(data, 'location', since, where)]
  const pages: number[] = []
  for await (const { level, position } of differingRefs(tree, former)) if (level === 0) pages.push(position)
  const blocks: number[] = []
  for (let from = 0; from < pages.length && blocks.length < max; from += PAGES) {
    const batch = pages.slice(from, from + PAGES)
    const [now, before] = await Promise.all([tree.locationPages(batch), former.locationPages(batch)])
    now.forEach((page, i) => {
      for (let row = 0; row < page.source.length; row++) {
        const place = locationAt(page, row)
        const other = locationAt(before[i] as LocationPage, row)
        if (place !== null && (other === null || !sameObject(place, other))) blocks.push(page.first + row)
      }
    })
  }
  return blocks.slice(0, max)
}

/** Reads the first byte of every pack that holds anything of these. Throws CORRUPT for the first that is not there. */
export async function requirePacks(
  data: DataStore,
  where: Where,
  packs: ReadonlyArray<{ generation: string; pack: number }>,
): Promise<void> {
  // In Redis an object is a unit by itself; there are no packs to ask for.
  if (data.layout === 'keys') return
  const read = await data.read(packs.map(({ generation, pack }) => ({ generation, pack, offset: 0, length: 1 })))
  const missing = packs.find((_, i) => read[i] === null)
  if (missing !== undefined)
    throw corrupt(where, `pack ${missing.pack} of generation ${missing.generation}`, 'its bytes', 'nothing')
}
