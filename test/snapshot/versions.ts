import { randomBytes } from 'node:crypto'
import type { Location, Manifest } from '../../schemas/manifest.ts'
import { contentDigest } from '../../src/snapshot/manifest.ts'
import type { MergeResult } from '../../src/snapshot/merge.ts'
import { locationAt } from '../../src/snapshot/page.ts'
import { manifestSources, positionsAt } from '../../src/snapshot/read.ts'
import { Tree } from '../../src/snapshot/tree.ts'
import type { DataStore } from '../../src/stores/ports.ts'
import { build, manifestOf, type Op, where } from './build.ts'

/** A version of several indexes, each written under a generation of its own, as a refresh does. */
export async function buildVersion(
  data: DataStore,
  ordinal: number,
  ops: Record<string, readonly Op[]>,
  { parent = null, bits }: { parent?: Manifest | null; bits: number },
): Promise<Manifest> {
  const results: Record<string, MergeResult> = {}
  let generation = ''
  for (const [index, chunk] of Object.entries(ops)) {
    generation = randomBytes(16).toString('hex')
    const former = parent?.indexes[index]
    results[index] = await build(data, [chunk], {
      generation,
      ...(former === undefined ? { bits } : { parent: former }),
    })
  }
  const indexes = Object.fromEntries(Object.entries(results).map(([name, result]) => [name, result.index]))
  const [any] = Object.values(results) as [MergeResult]
  return {
    ...(await manifestOf(data, ordinal, generation, any, parent)),
    indexes,
    digest: contentDigest(indexes),
    sources: await manifestSources(data, where.dataset, parent, results),
  }
}

/** Every object that a version needs: roots, nodes, pages, blocks. */
export async function objectsOf(data: DataStore, manifest: Manifest): Promise<Location[]> {
  const objects: Location[] = []
  for (const [name, index] of Object.entries(manifest.indexes)) {
    const from = { dataset: manifest.dataset, index: name, tag: manifest.tag }
    for (const kind of ['location', 'audit'] as const) {
      const tree = new Tree(data, kind, index, from)
      for (let level = tree.depth; level >= 0; level--)
        for (const positions of positionsAt(index.bits, level)) objects.push(...(await tree.refs(level, positions)))
      if (kind === 'audit') continue
      for (const page of await tree.locationPages([...positionsAt(index.bits, 0)].flat())) {
        for (let row = 0; row < page.source.length; row++) {
          const location = locationAt(page, row)
          if (location !== null) objects.push(location)
        }
      }
    }
  }
  return objects
}
