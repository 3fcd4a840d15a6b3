import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import type { Where } from '../snapshot/corrupt.ts'
import { parseHex64 } from '../snapshot/hash.ts'
import { decodeManifest, manifestHash } from '../snapshot/manifest.ts'
import { rootRef as refOf } from '../snapshot/tree.ts'
import type { DataStore } from '../stores/ports.ts'
import type { BlockReader } from './block-reader.ts'
import { MissingObject } from './missing-object.ts'
import { type Counting, type RecentKeys, recentOf, Tally } from './tally.ts'
import type { TreeCache, TreeObject, TreeRef } from './tree.ts'

/** An index of an open version: what a look-up needs, unpacked once. */
export interface OpenIndex {
  readonly name: string
  readonly kind: IndexManifest['kind']
  readonly keyParts: number
  readonly shape: string
  readonly seed: bigint
  readonly bits: number
  readonly where: Where
  readonly root: TreeObject
  readonly rootRef: TreeRef
  readonly tally: Tally
  readonly recent: RecentKeys | null
}

/** Where the parts of a version of one store come from. */
export interface VersionSource {
  readonly dataset: string
  readonly data: DataStore
  readonly tree: TreeCache
  readonly blocks: BlockReader
  readonly counting: Counting
}

/** A version with its manifest checked and the roots of its trees loaded: any number of calls and pins read it at once. */
export interface OpenVersion {
  readonly ref: VersionRef
  readonly manifest: Manifest
  readonly source: VersionSource
  readonly indexes: ReadonlyMap<string, OpenIndex>
  readonly tally: Tally
  /** performance.now() when the last pointer read that named it active, pinned or candidate was sent. This and what follows changes. */
  confirmedAt: number
  /** Up to when it is known to be current (ms since 1970), and whether that is longer ago than the dataset's budget. */
  currentUpTo: number
  expired: boolean
  /** It was opened for a canary: what it cannot answer, the active version does. */
  isCandidate: boolean
}

/**
 * Opens the version the pointer names: manifest, roots, and the pages that differ from what was cached of `before`.
 * Throws FORMAT_TOO_NEW, CORRUPT, STORE_UNREACHABLE, and MissingObject for what the store lacks.
 */
export async function openVersion(
  source: VersionSource,
  wanted: { tag: string; manifest?: string },
  before: OpenVersion | null,
  warmUntil: number,
): Promise<OpenVersion> {
  const { dataset } = source
  const bytes = await source.data.readManifest(wanted.tag)
  if (bytes === null) throw new MissingManifest(dataset, wanted.tag)
  const manifest = decodeManifest(bytes, {
    dataset,
    tag: wanted.tag,
    ...(wanted.manifest === undefined ? {} : { sha256: wanted.manifest }),
  })
  const tally = new Tally(source.counting.all)
  const indexes = new Map<string, OpenIndex>()
  const names = Object.keys(manifest.indexes)
  const opened = await Promise.all(
    names.map(async (name) => openIndex(source, name, manifest.indexes[name] as IndexManifest, manifest.tag, tally)),
  )
  for (const index of opened) indexes.set(index.name, index)
  const ref = {
    tag: manifest.tag,
    ordinal: manifest.ordinal,
    digest: manifest.digest,
    manifest: wanted.manifest ?? manifestHash(bytes),
  }
  const version: OpenVersion = {
    ref,
    manifest,
    source,
    indexes,
    tally,
    confirmedAt: Number.NEGATIVE_INFINITY,
    currentUpTo: Date.parse(manifest.watermark.at),
    expired: false,
    isCandidate: false,
  }
  if (before !== null && before.source === source) await warm(before, version, warmUntil)
  return version
}

async function openIndex(
  source: VersionSource,
  name: string,
  index: IndexManifest,
  tag: string,
  tally: Tally,
): Promise<OpenIndex> {
  const where = { dataset: source.dataset, index: name, tag }
  const rootRef: TreeRef = {
    ref: refOf(index.location),
    level: index.location.depth,
    first: 0,
    bits: index.bits,
    where,
  }
  return {
    name,
    kind: index.kind,
    keyParts: index.keyParts,
    shape: index.shape,
    seed: parseHex64(index.seed),
    bits: index.bits,
    where,
    root: await source.tree.object(rootRef),
    rootRef,
    tally,
    recent: recentOf(source.counting, name),
  }
}

async function warm(before: OpenVersion, after: OpenVersion, deadline: number): Promise<void> {
  await Promise.all(
    [...after.indexes.values()].map(async (index) => {
      const old = before.indexes.get(index.name)
      // Another layout: none of the cached pages says what will be asked for.
      if (old === undefined || old.bits !== index.bits) return
      await after.source.tree.warm(old.root, index.rootRef, deadline)
    }),
  )
}

/** The store lacks the manifest that the pointer, or a person, names. */
export class MissingManifest extends MissingObject {
  readonly tag: string
  constructor(dataset: string, tag: string) {
    super({ dataset, index: '', tag }, 'manifest')
    this.tag = tag
  }

  override asCorrupt(): SnapflipError {
    const { dataset } = this.where
    return new SnapflipError(
      'CORRUPT',
      `The manifest of ${this.tag} in ${dataset} is missing, expected it where the pointer names it. Roll back to another version, or restore the object from a copy of the store.`,
      { dataset, tag: this.tag, object: 'manifest', expected: 'a manifest', found: 'nothing' },
    )
  }
}

export function sameVersion(a: VersionRef, b: VersionRef): boolean {
  return a.manifest === b.manifest && a.tag === b.tag
}

/** The same version, in whichever store: only its bytes, and so its manifest, may lie elsewhere. */
export function sameContent(a: VersionRef, b: VersionRef): boolean {
  return a.tag === b.tag && a.ordinal === b.ordinal && a.digest === b.digest
}
