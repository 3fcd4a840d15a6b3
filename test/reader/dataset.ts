import { randomBytes, randomUUID } from 'node:crypto'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { NO_EPOCH, type PointerChange } from '../../src/core/pointer.ts'
import { ADD, encodeKey, REMOVE } from '../../src/snapshot/entry.ts'
import { contentDigest, encodeManifest, manifestHash } from '../../src/snapshot/manifest.ts'
import { type MergeResult, mergeRuns } from '../../src/snapshot/merge.ts'
import { manifestSources } from '../../src/snapshot/read.ts'
import { sweepVersion } from '../../src/snapshot/retire.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import type { Store } from '../../src/stores/ports.ts'
import { never, type Op, runsOf, SEED } from '../snapshot/build.ts'

export type KeyParts = string | readonly string[]
/** What an index of a version holds: pairs of key and JSON value. Of a `many` index, a key's pairs stand in its values' order. */
export interface IndexContent {
  kind: 'unique' | 'many'
  keyParts?: number
  shape?: string
  /** 2^bits blocks, when the version is built in full. */
  bits?: number
  entries: ReadonlyArray<readonly [KeyParts, unknown]>
}
export type Content = Record<string, IndexContent>

export interface BuiltVersion {
  ref: VersionRef
  manifest: Manifest
  content: Content
}

const text = (value: unknown) => JSON.stringify(value, (_, field) => (typeof field === 'bigint' ? `${field}` : field))

/** A dataset in a store, whose versions are written by the production builder and flipped by the production transitions. */
export class TestDataset {
  readonly name: string
  readonly store: Store
  readonly versions = new Map<string, BuiltVersion>()
  #ordinal = 0
  #registryEpoch = 0

  constructor(name: string, store: Store) {
    this.name = name
    this.store = store
  }

  get nextOrdinal(): number {
    return this.#ordinal + 1
  }

  /** Builds and seals the next version; on top of `parent`, only what changed is written. */
  async build(content: Content, parent: BuiltVersion | null = null): Promise<BuiltVersion> {
    const ordinal = ++this.#ordinal
    const tag = `v20260518-${String(ordinal).padStart(2, '0')}`
    const generation = randomBytes(16).toString('hex')
    const writer = await this.store.data.begin(generation)
    const results: Record<string, MergeResult> = {}
    for (const [name, index] of Object.entries(content)) {
      const before = parent?.content[name]
      const onto =
        before?.kind === index.kind && before.shape === index.shape ? parent?.manifest.indexes[name] : undefined
      const where = { dataset: this.name, index: name, tag }
      const runs = await runsOf([changes(onto === undefined ? undefined : before, index)], {
        dataset: this.name,
        index: name,
        kind: index.kind,
      })
      const fields = {
        kind: index.kind,
        keyParts: index.keyParts ?? 1,
        seed: SEED,
        shape: index.shape ?? 'test',
        reason: null,
      }
      results[name] = await mergeRuns({
        where,
        runs,
        data: this.store.data,
        writer,
        index: fields,
        signal: never,
        ...(onto === undefined ? {} : { parent: onto }),
        ...(index.bits === undefined || onto !== undefined ? {} : { bits: index.bits }),
      })
      await runs.remove()
    }
    await writer.finish()
    const indexes: Record<string, IndexManifest> = {}
    for (const [name, result] of Object.entries(results)) indexes[name] = result.index
    const manifest: Manifest = {
      format: 1,
      minReader: 1,
      dataset: this.name,
      tag,
      ordinal,
      parent: parent === null ? null : { tag: parent.ref.tag, manifest: parent.ref.manifest },
      createdAt: new Date().toISOString(),
      generation,
      watermark: {
        id: randomUUID(),
        snapshot: '10:20:10,12',
        nonce: '00112233445566778899aabbccddeeff',
        system: '7000000000000000001/5',
        at: new Date().toISOString(),
      },
      digest: contentDigest(indexes),
      indexes,
      sources: await manifestSources(this.store.data, this.name, parent?.manifest ?? null, results),
      writer: 'test',
    }
    const bytes = encodeManifest(manifest)
    await this.store.data.putManifest(tag, bytes)
    const ref = { tag, ordinal, digest: manifest.digest, manifest: manifestHash(bytes) }
    const version = { ref, manifest, content }
    this.versions.set(tag, version)
    return version
  }

  async pointer(): Promise<Pointer | null> {
    return (await this.store.pointer.read())?.pointer ?? null
  }

  /** Flips forward or back, with the next epoch. */
  async flip(version: BuiltVersion): Promise<Pointer> {
    const now = await this.pointer()
    this.#registryEpoch = Math.max(this.#registryEpoch, now?.epoch.registry ?? 0) + 1
    const { pointer } = await changePointer(
      this.store.pointer,
      {
        kind: 'flip',
        flipId: randomUUID(),
        expected: { tag: now?.active?.tag ?? null, epoch: now?.epoch ?? NO_EPOCH },
        to: version.ref,
        epoch: { registry: this.#registryEpoch, breakGlass: 0 },
        freshAsOf: { snapshot: '10:20:', at: new Date().toISOString() },
      },
      { dataset: this.name },
    )
    return pointer
  }

  async publish(content: Content, parent: BuiltVersion | null = null): Promise<BuiltVersion> {
    const version = await this.build(content, parent)
    await this.flip(version)
    return version
  }

  /** Lets a share of the readers answer from a version that is not active. */
  async canary(version: BuiltVersion, share: number, canaryId = randomUUID()): Promise<string> {
    const now = await this.pointer()
    this.#registryEpoch = Math.max(this.#registryEpoch, now?.epoch.registry ?? 0) + 1
    await this.change({
      kind: 'canary',
      canaryId,
      expected: { tag: now?.active?.tag ?? null, epoch: now?.epoch ?? NO_EPOCH },
      version: version.ref,
      share,
      salt: 'salt',
      since: new Date().toISOString(),
      epoch: { registry: this.#registryEpoch, breakGlass: 0 },
    })
    return canaryId
  }

  async change(change: PointerChange): Promise<void> {
    await changePointer(this.store.pointer, change, { dataset: this.name })
  }

  /** The first step of a deletion: afterwards nobody may take the version. */
  async retire(version: BuiltVersion): Promise<void> {
    await this.change({ kind: 'retire', tag: version.ref.tag })
  }

  /** Deletes a retired version unless a lease names it; says whether it did. `regardless` deletes what is leased too. */
  async sweep(version: BuiltVersion, regardless = false): Promise<boolean> {
    const { tag } = version.ref
    const leases = await this.store.leases.list()
    if (!regardless && leases.some((lease) => lease.tag === tag)) return false
    this.versions.delete(tag)
    const retained = [...this.versions.values()].map(({ manifest }) => manifest)
    const onDamage = (error: unknown) => {
      throw error
    }
    await sweepVersion(this.store.data, version.manifest, { retained, leaving: [], onDamage })
    await this.store.data.deleteManifest(tag)
    await this.change({ kind: 'forget', tag })
    return true
  }
}

/** What turns one content into another, as order-free operations. Without a former one: everything is added. */
function changes(before: IndexContent | undefined, after: IndexContent): Op[] {
  const entriesOf = (content: IndexContent | undefined) => {
    const places = new Map<string, number>()
    return (content?.entries ?? []).map(([parts, value]) => {
      const key = encodeKey(typeof parts === 'string' ? [parts] : parts).toString()
      const place = places.get(key) ?? 0
      places.set(key, place + 1)
      const order = content?.kind === 'many' ? { order: String(place).padStart(6, '0') } : {}
      return { key, value: text(value), ...order }
    })
  }
  const removed = new Map(entriesOf(before).map((entry) => [text(entry), entry]))
  const added = entriesOf(after).filter((entry) => !removed.delete(text(entry)))
  return [
    ...[...removed.values()].map((entry) => ({ op: REMOVE, ...entry }) as const),
    ...added.map((entry) => ({ op: ADD, ...entry }) as const),
  ]
}
