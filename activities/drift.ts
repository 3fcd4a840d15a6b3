import type { ClientBase } from 'pg'
import type { TableIndex } from '../schemas/config.ts'
import type { IndexManifest, Manifest } from '../schemas/manifest.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import { changedKeys } from '../src/changelog/explain.ts'
import { readKeys, type SampledEntry, sampleSource } from '../src/changelog/sample.ts'
import { inSnapshot } from '../src/changelog/session.ts'
import type { Source } from '../src/changelog/source.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import type { Drift } from '../src/gates/gate.ts'
import { eachEntry } from '../src/snapshot/block.ts'
import { blockOf, hashKey, parseHex64, sha256Hex } from '../src/snapshot/hash.ts'
import { readBlocks, sampleBlocks } from '../src/snapshot/read.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/** Beyond this many keys changed since the watermark, nothing is left that could be compared. */
const CHANGED_KEYS_MAX = 1_000_000

/**
 * Compares source and version in one snapshot of the database, both ways where the source can be asked for single keys: entries of the
 * source must be in the version, entries of the version in the source. Keys touched since the watermark are set aside.
 */
export async function measureDrift(
  deps: Deps,
  store: Store,
  options: {
    manifest: Manifest
    name: string
    definition: TableIndex
    mode: 'sample' | 'full'
    sample: number
    signal: AbortSignal
  },
): Promise<Drift> {
  const { manifest, name, definition, signal } = options
  const index = manifest.indexes[name] as IndexManifest
  const wanted = options.mode === 'full' ? Number.MAX_SAFE_INTEGER : options.sample
  const where = { dataset: manifest.dataset, index: name, tag: manifest.tag }
  const client = await deps.builder()
  try {
    const source = await resolveSource(client, manifest.dataset, name, definition)
    const ofVersion = await sampleBlocks(store.data, where, index, Math.min(wanted, index.count))
    const { snapshot, ofSource, lookedUp } = await inSnapshot(client, [], async (at) => ({
      snapshot: at,
      ofSource: await sampleSource(client, source, wanted, signal),
      lookedUp: await readKeys(client, source, distinctKeys(ofVersion), signal),
    }))
    const touched = await touchedKeys(client, source, manifest, snapshot)
    const different = new Set<string>()
    let setAside = 0
    const compared = new Set<string>()
    const each = (entries: readonly SampledEntry[], has: (entry: SampledEntry) => boolean) => {
      for (const entry of entries) {
        const key = entry.key.toString('hex')
        if (touched.keys.has(key)) setAside++
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
    // Equal is equal, whatever is known of the changes since.
    if (touched.unknown !== null && different.size > 0) {
      return { compared: 0, setAside, different: [], differentCount: 0, notCompared: touched.unknown, bothWays: false }
    }
    return {
      compared: compared.size,
      setAside,
      different: [...different].slice(0, 10).map((key) => `sha256:${sha256Hex(Buffer.from(key, 'hex')).slice(0, 16)}`),
      differentCount: different.size,
      notCompared: null,
      bothWays: lookedUp !== null,
    }
  } finally {
    await client.end()
  }
}

/**
 * The keys that changed since the watermark, or why they cannot be known: then a difference means nothing. A source without capture cannot say. One that
 * was altered since will be built in full by the next refresh; this version still holds what it held at its watermark.
 */
async function touchedKeys(
  client: ClientBase,
  source: Source,
  manifest: Manifest,
  snapshot: string,
): Promise<{ keys: ReadonlySet<string>; unknown: string | null }> {
  const unknown = (why: string) => ({ keys: new Set<string>(), unknown: why })
  if (source.kind === 'table' && !source.captured)
    return unknown('its source is not captured, so it cannot say what changed since the watermark')
  try {
    const keys = await changedKeys(client, source, { from: manifest.watermark, to: snapshot }, CHANGED_KEYS_MAX)
    return keys === null
      ? unknown(`more than ${CHANGED_KEYS_MAX} keys changed since the watermark`)
      : { keys, unknown: null }
  } catch (error) {
    if (!isSnapflipError(error, 'SOURCE_CHANGED')) throw error
    return unknown(error.message)
  }
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
  where: { dataset: string; index: string; tag: string },
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
