import type { TreeRoot } from '../../schemas/manifest.ts'
import { sha256 } from './hash.ts'
import type { ObjectQueue } from './object-queue.ts'
import { type ChildRef, encodeNode, NODE_CHILDREN, rowsAt, spanAt, type TreeKind, treeDepth } from './page.ts'
import type { SourceTally } from './sources.ts'
import { type Tree, treeRoot } from './tree.ts'

export interface TreeToWrite {
  kind: TreeKind
  bits: number
  /** Pages that were written, by position; all of them where there is no parent. */
  leaves: ReadonlyMap<number, ChildRef>
  /** The tree that this one shares the rest with. */
  parent: Tree | undefined
  queue: ObjectQueue
  /** What is written is counted, what takes its place is taken off; blocks are the caller's. */
  sources: SourceTally
}

/** Writes the nodes above the pages that were written, level by level, up to the root. */
export async function writeTree({ kind, bits, leaves, parent, queue, sources }: TreeToWrite): Promise<TreeRoot> {
  const depth = treeDepth(bits)
  let written = leaves
  if (parent !== undefined) for (const ref of await parent.refs(0, [...written.keys()])) sources.count(ref, -1)
  for (let level = 1; level <= depth; level++) {
    const below = written
    const positions = [...new Set(Array.from(below.keys(), (position) => Math.floor(position / NODE_CHILDREN)))]
    const formers = parent === undefined ? undefined : await parent.nodes(level, positions)
    if (parent !== undefined) for (const ref of await parent.refs(level, positions)) sources.count(ref, -1)
    const above = new Map<number, ChildRef>()
    positions.forEach((position, i) => {
      const first = position * spanAt(level)
      const children = Array.from({ length: rowsAt(bits, level, first) }, (_, n) => {
        const child = below.get(position * NODE_CHILDREN + n) ?? formers?.[i]?.children[n]
        if (child === undefined) throw new Error(`level ${level - 1} lacks ${position * NODE_CHILDREN + n}`)
        return child
      })
      const object = encodeNode({ kind, level, first, children })
      queue.add(object, (location) => {
        sources.count(location, 1)
        above.set(position, { ...location, sha256: sha256(object) })
      })
    })
    await queue.drain()
    written = above
  }
  return treeRoot(written.get(0) as ChildRef, depth)
}
