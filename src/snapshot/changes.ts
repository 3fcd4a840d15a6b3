import type { IndexManifest } from '../../schemas/manifest.ts'
import type { DataStore } from '../stores/ports.ts'
import type { Where } from './corrupt.ts'
import { changedKeys, differingUnits, type EntryAt, isComparable, keyOf } from './diff.ts'
import { readEntries } from './read.ts'

/** One entry of the version before and what it became. Null: it was not there, or is no more. */
export interface Change {
  key: Buffer
  before: Buffer | null
  after: Buffer | null
}

/**
 * What a version's index has otherwise than the one before it, in batches: blocks that both share are not read. Without one before it, or with one
 * laid out under another seed, everything was added, after all of the former was taken away. Of the entries removed and added under one key of a
 * `many` index, pairs are updates, as `diffIndex` counts them.
 */
export async function* readChanges(
  data: DataStore,
  before: { where: Where; index: IndexManifest } | null,
  after: { where: Where; index: IndexManifest },
  signal: AbortSignal,
): AsyncGenerator<Change[]> {
  if (before !== null && isComparable(before.index, after.index)) {
    for await (const { units } of differingUnits(data, before, after, signal)) {
      const batch: Change[] = []
      for (const unit of units)
        for (const { removed, added } of changedKeys(unit, after.index.kind === 'many'))
          for (let n = 0; n < Math.max(removed.length, added.length); n++)
            batch.push(changeOf(removed[n] ?? null, added[n] ?? null))
      if (batch.length > 0) yield batch
    }
    return
  }
  if (before !== null)
    for await (const entries of readEntries(data, before, signal))
      yield entries.map(({ key, value }) => ({ key, before: value, after: null }))
  for await (const entries of readEntries(data, after, signal))
    yield entries.map(({ key, value }) => ({ key, before: null, after: value }))
}

function changeOf(removed: EntryAt | null, added: EntryAt | null): Change {
  const value = (entry: EntryAt | null) => entry?.raw.subarray(entry.valueStart, entry.end) ?? null
  return { key: keyOf((removed ?? added) as EntryAt), before: value(removed), after: value(added) }
}
