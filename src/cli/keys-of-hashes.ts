import type { Manifest } from '../../schemas/manifest.ts'
import { eachEntry } from '../snapshot/block.ts'
import { hashedKey } from '../snapshot/hashed-key.ts'
import { readIndex } from '../snapshot/read.ts'
import type { DataStore } from '../stores/ports.ts'

/**
 * The keys that evidence names by hash, found in the version's own blocks: for the eyes of whoever may read the store, never for a log. A key
 * that the version does not have (the source has it alone, say) is not in the result.
 *
 * @returns hash → key, the parts of a key joined by a comma.
 */
export async function keysOfHashes(
  data: DataStore,
  { dataset, tag, indexes }: Manifest,
  wanted: ReadonlyMap<string, ReadonlySet<string>>,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const keys = new Map<string, string>()
  for (const [name, hashes] of wanted) {
    const index = indexes[name]
    if (index === undefined || hashes.size === 0) continue
    const where = { dataset, index: name, tag }
    for await (const batch of readIndex(data, where, index, signal)) {
      for (const [block, raw] of batch) {
        eachEntry(raw, index.kind === 'many', block, where, (_start, keyStart, keyEnd) => {
          const key = raw.subarray(keyStart, keyEnd)
          const hash = hashedKey(key)
          if (hashes.has(hash)) keys.set(hash, key.toString('utf8').replaceAll('\0', ', '))
        })
      }
      if ([...hashes].every((hash) => keys.has(hash))) break
    }
  }
  return keys
}
