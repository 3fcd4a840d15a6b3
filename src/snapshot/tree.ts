import type { IndexManifest, Location, TreeRoot } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import type { Where } from './corrupt.ts'
import {
  type AuditPage,
  type ChildRef,
  decodeAuditPage,
  decodeLocationPage,
  decodeNode,
  type Expected,
  type LocationPage,
  NODE_CHILDREN,
  type Node,
  rowsAt,
  spanAt,
  type TreeKind,
} from './page.ts'

/** The parts of an index's manifest that say where its trees are. */
export type IndexTrees = Pick<IndexManifest, 'bits' | 'location' | 'audit'>

/** Pages read in one batch: about 4 MB. */
export const PAGE_BATCH = 256

export function rootRef(root: TreeRoot): ChildRef {
  const { generation, pack, offset, length } = root
  return { generation, pack, offset, length, sha256: Buffer.from(root.sha256, 'hex') }
}

export function treeRoot(ref: ChildRef, depth: number): TreeRoot {
  const { generation, pack, offset, length } = ref
  return { generation, pack, offset, length, sha256: ref.sha256.toString('hex'), depth }
}

export function sameObject(a: Location, b: Location): boolean {
  return a.generation === b.generation && a.pack === b.pack && a.offset === b.offset
}

/** The same bytes in the same place. */
function sameRef(a: ChildRef, b: ChildRef): boolean {
  return sameObject(a, b) && a.length === b.length && a.sha256.equals(b.sha256)
}

/** An object of a tree that another tree of the same layout does not share, by level and position. */
export interface DifferingRef {
  level: number
  position: number
  ref: ChildRef
  other: ChildRef
}

/** Every object of `tree` that `other` has not got in its place, from the root down. Shared subtrees are not read, nor are differing pages. */
export async function* differingRefs(tree: Tree, other: Tree): AsyncGenerator<DifferingRef> {
  if (tree.bits !== other.bits || tree.depth !== other.depth) throw new Error('the trees have different layouts')
  if (sameRef(tree.root, other.root)) return
  let differing = [{ level: tree.depth, position: 0, ref: tree.root, other: other.root }]
  for (let level = tree.depth; ; level--) {
    yield* differing
    if (level === 0) return
    const below: DifferingRef[] = []
    for (let from = 0; from < differing.length; from += PAGE_BATCH) {
      const positions = differing.slice(from, from + PAGE_BATCH).map(({ position }) => position)
      const [nodes, others] = await Promise.all([tree.nodes(level, positions), other.nodes(level, positions)])
      nodes.forEach((node, i) => {
        node.children.forEach((ref, n) => {
          const there = others[i]?.children[n] as ChildRef
          if (!sameRef(ref, there))
            below.push({ level: level - 1, position: (positions[i] as number) * NODE_CHILDREN + n, ref, other: there })
        })
      })
    }
    differing = below
  }
}

/** Reads one tree of an index, checking every object against what its parent says of it. Nodes are kept, pages are not. */
export class Tree {
  readonly root: ChildRef
  readonly depth: number
  readonly bits: number
  readonly #data: DataStore
  readonly #kind: TreeKind
  readonly #where: Where
  readonly #nodes = new Map<string, Node>()

  constructor(data: DataStore, kind: TreeKind, index: IndexTrees, where: Where) {
    this.#data = data
    this.#kind = kind
    this.#where = where
    this.bits = index.bits
    this.root = rootRef(index[kind])
    this.depth = index[kind].depth
  }

  /** What the object at `level` that covers block `first` has to be. */
  expected(level: number, first: number, ref: ChildRef): Expected {
    return { kind: this.#kind, level, first, rows: rowsAt(this.bits, level, first), sha256: ref.sha256 }
  }

  /** Refs of the objects of a level by position (first block / blocks covered), in the order asked. */
  async refs(level: number, positions: readonly number[]): Promise<ChildRef[]> {
    if (level === this.depth) return positions.map(() => this.root)
    const nodes = await this.nodes(
      level + 1,
      positions.map((position) => Math.floor(position / NODE_CHILDREN)),
    )
    return positions.map((position, i) => (nodes[i] as Node).children[position % NODE_CHILDREN] as ChildRef)
  }

  /** Nodes of a level (1 or higher) by position, in the order asked. */
  async nodes(level: number, positions: readonly number[]): Promise<Node[]> {
    const missing = [...new Set(positions)].filter((position) => !this.#nodes.has(`${level}/${position}`))
    if (missing.length > 0) {
      const refs = await this.refs(level, missing)
      const stored = await this.#data.read(refs)
      missing.forEach((position, i) => {
        const expected = this.expected(level, position * spanAt(level), refs[i] as ChildRef)
        this.#nodes.set(`${level}/${position}`, decodeNode(stored[i] ?? null, expected, this.#where))
      })
    }
    return positions.map((position) => this.#nodes.get(`${level}/${position}`) as Node)
  }

  /** Stored bytes of pages with what they have to be. */
  async #pages<T>(
    pages: readonly number[],
    decode: (stored: Uint8Array | null, expected: Expected, where: Where) => T,
  ): Promise<T[]> {
    const refs = await this.refs(0, pages)
    const stored = await this.#data.read(refs)
    return pages.map((page, i) =>
      decode(stored[i] ?? null, this.expected(0, page * spanAt(0), refs[i] as ChildRef), this.#where),
    )
  }

  locationPages(pages: readonly number[]): Promise<LocationPage[]> {
    return this.#pages(pages, decodeLocationPage)
  }

  auditPages(pages: readonly number[]): Promise<AuditPage[]> {
    return this.#pages(pages, decodeAuditPage)
  }
}
