import type { Client } from 'pg'
import type { TableIndex } from '../schemas/config.ts'
import type { IndexManifest, Manifest } from '../schemas/manifest.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import { changedKeys } from '../src/changelog/explain.ts'
import { readKeys, type SampledEntry, sampleSource } from '../src/changelog/sample.ts'
import { scanSource } from '../src/changelog/scan.ts'
import { inSnapshot } from '../src/changelog/session.ts'
import { lockNames, type Source } from '../src/changelog/source.ts'
import { windowSource } from '../src/changelog/window.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import type { Drift } from '../src/gates/gate.ts'
import { eachEntry } from '../src/snapshot/block.ts'
import { compareRuns } from '../src/snapshot/compare.ts'
import type { Where } from '../src/snapshot/corrupt.ts'
import type { EntrySource } from '../src/snapshot/entry.ts'
import { blockOf, hashKey, parseHex64 } from '../src/snapshot/hash.ts'
import { hashedKey } from '../src/snapshot/hashed-key.ts'
import { readBlocks, sampleBlocks } from '../src/snapshot/read.ts'
import { finished } from '../src/snapshot/run-writer.ts'
import { openRuns } from '../src/snapshot/runs.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/** Beyond this many keys changed since the watermark, nothing is left that could be compared. */
const CHANGED_KEYS_MAX = 1_000_000

export interface DriftOptions {
  manifest: Manifest
  name: string
  definition: TableIndex
  mode: 'sample' | 'full'
  sample: number
  /** For what a comparison in full does not keep in memory; made when needed, and removed. */
  folder: string
  signal: AbortSignal
}

/** A version's index beside its source. */
interface Sides {
  client: Client
  source: Source
  store: Store
  where: Where
  index: IndexManifest
}

/** Compares source and version as of the version's watermark, so that what changed since is never taken for a difference. */
export async function measureDrift(deps: Pick<Deps, 'builder'>, store: Store, options: DriftOptions): Promise<Drift> {
  const { manifest, name, definition, mode } = options
  const client = await deps.builder()
  try {
    const source = await resolveSource(client, manifest.dataset, name, definition)
    const where = { dataset: manifest.dataset, index: name, tag: manifest.tag }
    const sides: Sides = { client, source, store, where, index: manifest.indexes[name] as IndexManifest }
    return await (mode === 'full' ? compareAll(sides, options) : compareSample(sides, options))
  } finally {
    await client.end()
  }
}

/** All of the source by way of files, with the changes since the watermark folded backwards, and all of the version. */
async function compareAll(
  { client, source, store, where, index }: Sides,
  { manifest, folder, signal }: DriftOptions,
): Promise<Drift> {
  const runs = await openRuns({
    ...where,
    kind: index.kind,
    seed: index.seed,
    // A row that is too long for the next version is the next build's to refuse.
    keyBytesMax: Number.MAX_SAFE_INTEGER,
    valueBytesMax: Number.MAX_SAFE_INTEGER,
    folder,
    expectedBytes: index.bytes,
  })
  const take = (id: string, from: EntrySource) => finished(runs.begin(id), (writer) => from.read(writer, signal))
  try {
    const to = await inSnapshot(client, lockNames([source]), async (snapshot) => {
      await take('source', scanSource(client, source))
      return snapshot
    })
    const window = { from: manifest.watermark, to }
    const unknown = await whyUnknown(source, async () => {
      await take('changes', windowSource(client, source, window, { reverse: true }))
      return null
    })
    const { keys, different } = await compareRuns(runs, { data: store.data, where, index }, signal)
    if (unknown !== null && different.count > 0) return notCompared(unknown, 0)
    return {
      compared: keys,
      setAside: 0,
      different: different.keys.map(hashedKey),
      differentCount: different.count,
      notCompared: null,
      bothWays: true,
    }
  } finally {
    await runs.remove()
  }
}

/** A sample of each side, looked for in the other where the source can be asked for single keys. Keys touched since the watermark are set aside. */
async function compareSample(
  { client, source, store, where, index }: Sides,
  { manifest, sample, signal }: DriftOptions,
): Promise<Drift> {
  const ofVersion = await sampleBlocks(store.data, where, index, Math.min(sample, index.count))
  const { to, ofSource, lookedUp } = await inSnapshot(client, [], async (snapshot) => ({
    to: snapshot,
    ofSource: await sampleSource(client, source, sample, signal),
    lookedUp: await readKeys(client, source, distinctKeys(ofVersion), signal),
  }))
  const touched = new Set<string>()
  const unknown = await whyUnknown(source, async () => {
    const keys = await changedKeys(client, source, { from: manifest.watermark, to }, CHANGED_KEYS_MAX)
    if (keys === null) return `more than ${CHANGED_KEYS_MAX} keys changed since the watermark`
    for (const key of keys) touched.add(key)
    return null
  })
  const different = new Set<string>()
  let setAside = 0
  const compared = new Set<string>()
  const each = (entries: readonly SampledEntry[], has: (entry: SampledEntry) => boolean) => {
    for (const entry of entries) {
      const key = entry.key.toString('hex')
      if (touched.has(key)) setAside++
      else {
        compared.add(key)
        if (!has(entry)) different.add(key)
      }
    }
  }
  const inVersion = await entriesOf(store, where, index, ofSource)
  each(ofSource, (entry) => inVersion.has(nameOf(entry)))
  if (lookedUp !== null) {
    const inSource = new Set(lookedUp.map(nameOf))
    each(ofVersion, (entry) => inSource.has(nameOf(entry)))
  }
  if (unknown !== null && different.size > 0) return notCompared(unknown, setAside)
  return {
    compared: compared.size,
    setAside,
    different: [...different].slice(0, 10).map((key) => hashedKey(Buffer.from(key, 'hex'))),
    differentCount: different.size,
    notCompared: null,
    bothWays: lookedUp !== null,
  }
}

/**
 * Reads the changes since the watermark; else why they cannot be known. Equal is equal even so, but a difference then means nothing. A source without
 * capture cannot say. One that was altered since will be built in full by the next refresh; this version still holds what it held at its watermark.
 */
async function whyUnknown(source: Source, read: () => Promise<string | null>): Promise<string | null> {
  if (source.kind === 'table' && !source.captured)
    return 'its source is not captured, so it cannot say what changed since the watermark'
  try {
    return await read()
  } catch (error) {
    if (!isSnapflipError(error, 'SOURCE_CHANGED')) throw error
    return error.message
  }
}

function notCompared(why: string, setAside: number): Drift {
  return { compared: 0, setAside, different: [], differentCount: 0, notCompared: why, bothWays: false }
}

function nameOf(entry: SampledEntry): string {
  return `${entry.key.toString('hex')}/${entry.order?.toString('hex') ?? ''}/${entry.value.toString('hex')}`
}

function distinctKeys(entries: readonly SampledEntry[]): Buffer[] {
  return [...new Map(entries.map((entry) => [entry.key.toString('hex'), entry.key])).values()]
}

/** All entries of the blocks in which these keys belong. */
async function entriesOf(
  store: Store,
  where: Where,
  index: IndexManifest,
  wanted: readonly SampledEntry[],
): Promise<ReadonlySet<string>> {
  const seed = parseHex64(index.seed)
  const blocks = new Set(wanted.map(({ key }) => blockOf(hashKey(key, 0, key.length, seed), index.bits)))
  const found = new Set<string>()
  const many = index.kind === 'many'
  for (const [block, raw] of await readBlocks(store.data, where, index, blocks)) {
    eachEntry(raw, many, block, where, (_start, keyStart, keyEnd, valueStart, end) => {
      const order = many ? raw.subarray(keyEnd + 4, valueStart - 4) : null
      found.add(nameOf({ key: raw.subarray(keyStart, keyEnd), order, value: raw.subarray(valueStart, end) }))
    })
  }
  return found
}
