import type { IndexManifest } from '../../schemas/manifest.ts'
import { needsRelayout } from '../snapshot/layout.ts'
import type { Source } from './source.ts'

/** Why a source without capture is read in full. */
export const NOT_CAPTURED = 'its source is not captured'

export function kindOf(source: Source): IndexManifest['kind'] {
  return source.kind === 'table' && source.order !== null ? 'many' : 'unique'
}

/**
 * Why the next build reads the source of an index in full; null where the changes since the parent's will do. One decision for the refresh
 * that makes it and the plan that announces it.
 */
export function whyFull(
  source: Source,
  former: IndexManifest | null,
  found: {
    /** The parent's watermark is not in this database's history. */
    lineageBroken: boolean
    /** Table → why its changes since the parent cannot be relied on. */
    faults: ReadonlyMap<string, string>
    asked: string | null
    /** Indexes without capture whose source was read lately enough. */
    young: ReadonlySet<string>
  },
): string | null {
  if (former === null) return 'the first version of this index'
  if (found.lineageBroken) return "the parent's watermark is not in this database's history (LINEAGE_BROKEN)"
  if (found.asked !== null) return found.asked
  if (source.kind === 'table') {
    if (!source.captured && !found.young.has(source.index)) return NOT_CAPTURED
    const fault = found.faults.get(source.table.name)
    if (fault !== undefined) return fault
  }
  const kind = kindOf(source)
  if (former.kind !== kind) return `it was declared \`${former.kind}\`, now \`${kind}\``
  if (former.shape !== source.shape) return 'its definition or the shape of its source changed'
  if (needsRelayout(former)) return `${former.count} entries no longer suit ${2 ** former.bits} blocks`
  return null
}
