import type { IndexManifest, Location, Manifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import { type LocationPage, locationAt, NODE_CHILDREN, type TreeKind } from './page.ts'
import { sourceName } from './sources.ts'
import { PAGE_BATCH, sameObject, Tree } from './tree.ts'

/** What the retirement of a version frees. */
export interface DeadUnits {
  /** Generations that no retained version uses at all: `deleteGeneration`. */
  generations: string[]
  /** Objects (or packs) of other generations that no retained version uses, in batches, to be deleted as they come: `deleteUnits`. */
  units: AsyncGenerator<Location[]>
}

/**
 * Finds what only the retired version uses. `retained` are the manifests of all versions that stay, the parents of open builds
 * included. From pages alone: a subtree that a retained version shares is skipped, in any other an object is dead when no
 * retained version has the same one in that position.
 */
export function deadUnits(data: DataStore, retired: Manifest, retained: readonly Manifest[]): DeadUnits {
  const alive = new Set(retained.flatMap((manifest) => manifest.sources.map((source) => source.generation)))
  for (const manifest of retained) alive.add(manifest.generation)
  const generations = [...new Set([retired.generation, ...retired.sources.map((source) => source.generation)])].filter(
    (generation) => !alive.has(generation),
  )
  const units = data.layout === 'packs' ? deadPacks(retired, retained) : deadObjects(data, retired, retained)
  const gone = new Set(generations)
  return { generations, units: withoutGenerations(units, gone) }
}

async function* withoutGenerations(units: AsyncGenerator<Location[]>, gone: Set<string>): AsyncGenerator<Location[]> {
  for await (const batch of units) {
    const left = batch.filter((location) => !gone.has(location.generation))
    if (left.length > 0) yield left
  }
}

async function* deadPacks(retired: Manifest, retained: readonly Manifest[]): AsyncGenerator<Location[]> {
  const alive = new Set(retained.flatMap((manifest) => manifest.sources.map(sourceName)))
  yield retired.sources
    .filter((source) => !alive.has(sourceName(source)))
    .map(({ generation, pack, bytes }) => ({ generation, pack, offset: 0, length: bytes }))
}

async function* deadObjects(
  data: DataStore,
  retired: Manifest,
  retained: readonly Manifest[],
): AsyncGenerator<Location[]> {
  for (const [name, index] of Object.entries(retired.indexes)) {
    const others = retained
      .map((manifest) => ({ manifest, other: manifest.indexes[name] }))
      // Another layout shares nothing: it was built in full.
      .filter((item): item is { manifest: Manifest; other: IndexManifest } => item.other?.bits === index.bits)
    for (const kind of ['location', 'audit'] as const) {
      const tree = new Tree(data, kind, index, { dataset: retired.dataset, index: name, tag: retired.tag })
      const trees = others.map(
        ({ manifest, other }) =>
          new Tree(data, kind, other, { dataset: manifest.dataset, index: name, tag: manifest.tag }),
      )
      yield* deadInTree(kind, tree, trees)
    }
  }
}

async function* deadInTree(kind: TreeKind, tree: Tree, others: readonly Tree[]): AsyncGenerator<Location[]> {
  if (others.some((other) => sameObject(other.root, tree.root))) return
  // The caller deletes as it goes: what leads to an object comes after it, so that an interrupted sweep finds the rest again.
  const above: Location[][] = [[tree.root]]
  let dead = [0]
  for (let level = tree.depth; level > 0; level--) {
    const below: number[] = []
    for (let from = 0; from < dead.length; from += PAGE_BATCH) {
      const positions = dead.slice(from, from + PAGE_BATCH)
      const nodes = await tree.nodes(level, positions)
      const otherNodes = await Promise.all(others.map((other) => other.nodes(level, positions)))
      const found: Location[] = []
      nodes.forEach((node, i) => {
        node.children.forEach((child, n) => {
          if (otherNodes.some((list) => sameObject(list[i]?.children[n] as Location, child))) return
          found.push(child)
          below.push((positions[i] as number) * NODE_CHILDREN + n)
        })
      })
      if (found.length > 0) above.push(found)
    }
    dead = below
  }
  if (kind === 'location') yield* deadBlocks(tree, others, dead)
  yield* above.reverse()
}

/** Blocks of these pages that no other version has in their place. */
async function* deadBlocks(tree: Tree, others: readonly Tree[], dead: readonly number[]): AsyncGenerator<Location[]> {
  for (let from = 0; from < dead.length; from += 16) {
    const positions = dead.slice(from, from + 16)
    const pages = await tree.locationPages(positions)
    const otherPages = await Promise.all(others.map((other) => other.locationPages(positions)))
    const found: Location[] = []
    pages.forEach((page, i) => {
      for (let row = 0; row < page.source.length; row++) {
        const location = locationAt(page, row)
        if (location === null) continue
        const shared = otherPages.some((list) => {
          const other = locationAt(list[i] as LocationPage, row)
          return other !== null && sameObject(other, location)
        })
        if (!shared) found.push(location)
      }
    })
    if (found.length > 0) yield found
  }
}
