import type { DatasetDefinition } from '../../schemas/config.ts'
import type { Manifest } from '../../schemas/manifest.ts'

/** A version, and up to when the pointer says that it is current; null: nothing was looked at since it was made. */
export interface ReadVersion {
  manifest: Pick<Manifest, 'indexes' | 'watermark'>
  freshAsOfAt: string | null
}

/**
 * When the source of an index was last read. The pointer is later than the version's watermark only where a refresh has read every source since,
 * and found nothing new.
 */
export function lastReadAt({ manifest, freshAsOfAt }: ReadVersion, index: string): Date {
  const { at } = manifest.watermark
  const since = freshAsOfAt !== null && Date.parse(freshAsOfAt) > Date.parse(at) ? freshAsOfAt : null
  return new Date(since ?? manifest.indexes[index]?.readAt ?? at)
}

/** When an index without capture is to be read again; null for all others. */
function readAgainAt(definition: DatasetDefinition, version: ReadVersion, index: string): Date | null {
  const afterMs = rebuildAfterMs(definition, index)
  return afterMs === undefined ? null : new Date(lastReadAt(version, index).getTime() + afterMs)
}

/**
 * When a dataset is due for its age alone: as soon as an index without capture is, but no sooner after a refusal than after a version, since what
 * was refused has been read in full too.
 *
 * @param version null: there is none yet.
 * @param refusedAt null: nothing was refused since.
 * @returns milliseconds of the epoch; Infinity: never.
 */
export function dueAt(definition: DatasetDefinition, version: ReadVersion | null, refusedAt: string | null): number {
  const due = Object.keys(definition.indexes).map((index) => {
    const afterMs = rebuildAfterMs(definition, index)
    const readAt = version === null ? 0 : lastReadAt(version, index).getTime()
    return afterMs === undefined
      ? Number.POSITIVE_INFINITY
      : Math.max(readAt, Date.parse(refusedAt ?? '') || 0) + afterMs
  })
  return Math.min(...due)
}

/** Indexes without capture that are young enough to serve as they are. */
export function youngIndexes(definition: DatasetDefinition, version: ReadVersion, now: Date): Set<string> {
  const names = Object.keys(definition.indexes).filter((index) => version.manifest.indexes[index] !== undefined)
  return new Set(names.filter((index) => (readAgainAt(definition, version, index)?.getTime() ?? 0) > now.getTime()))
}

function rebuildAfterMs({ indexes }: DatasetDefinition, index: string): number | undefined {
  const declared = indexes[index]
  return declared === undefined || 'events' in declared ? undefined : declared.rebuildAfterMs
}
