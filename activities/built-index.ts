import type { IndexEvidence } from '../schemas/evidence.ts'
import type { IndexManifest } from '../schemas/manifest.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { formatBytes } from '../src/core/format-bytes.ts'
import { diffIndex } from '../src/snapshot/diff.ts'
import { hashedKey } from '../src/snapshot/hashed-key.ts'
import type { MergeResult } from '../src/snapshot/merge.ts'
import type { Store } from '../src/stores/ports.ts'
import type { IndexPlan } from './index-plans.ts'

/** An index of the next version, merged. */
export interface BuiltIndex {
  plan: IndexPlan
  manifest: IndexManifest
  evidence: IndexEvidence
  sources: MergeResult['sources']
  /** What it wrote; null when the parent's blocks serve unchanged. */
  generation: string | null
}

/** What a gate is told of an index: how it was built, and what that changed. */
export function evidenceOf(
  plan: IndexPlan,
  index: IndexManifest,
  merged: MergeResult | null,
  sourceCount: number | null,
): IndexEvidence {
  const parentCount = plan.former?.count ?? 0
  const net = index.count - parentCount
  const counts =
    plan.fullReason === null
      ? (merged?.counts ?? { inserted: 0, updated: 0, deleted: 0 })
      : { inserted: Math.max(0, net), updated: null, deleted: Math.max(0, -net) }
  return {
    build: index.build,
    reason: plan.fullReason,
    parentCount,
    count: index.count,
    parentBytes: plan.former?.bytes ?? 0,
    bytes: index.bytes,
    inserted: counts.inserted,
    updated: counts.updated,
    deleted: counts.deleted,
    sourceCount,
    notCompared: null,
    duplicates: {
      count: merged?.duplicates.count ?? 0,
      sampleKeys: (merged?.duplicates.keys ?? []).map(hashedKey),
    },
    formerShape: plan.former !== null && plan.former.shape !== index.shape ? plan.former.shape : null,
    shape: index.shape,
    blocksWritten: merged?.blocksWritten ?? 0,
    bytesWritten: merged?.bytesWritten ?? 0,
  }
}

/**
 * What a full build changed of the version before: a bad change must not pass because it came with one. Blocks of the same bytes are not read.
 * Where the shape changed, so did every value, and how many says nothing.
 */
export async function changesOfFullBuild(
  store: Store,
  dataset: string,
  plan: IndexPlan,
  index: IndexManifest,
  signal: AbortSignal,
): Promise<Partial<Pick<IndexEvidence, 'inserted' | 'updated' | 'deleted' | 'notCompared'>>> {
  const { former } = plan
  if (plan.fullReason === null || former === null) return {}
  const where = { dataset, index: plan.name }
  try {
    const diff = await diffIndex(store.data, { where, index: former }, { where, index }, signal)
    if (!diff.comparable) return {}
    const { inserted, updated, deleted } = diff
    return { inserted, updated: former.shape === index.shape ? updated : null, deleted }
  } catch (error) {
    // A full build is how damage is mended: it must not need what is damaged.
    if (!isSnapflipError(error, 'CORRUPT')) throw error
    return { notCompared: error.message }
  }
}

/** One line for whoever follows the refresh. */
export function summaryOf(built: readonly BuiltIndex[]): string {
  return built
    .map(({ plan, evidence }) => {
      const written = `${formatBytes(evidence.bytesWritten)} written`
      if (evidence.build === 'unchanged') return `${plan.name}: unchanged`
      if (plan.fullReason !== null)
        return `${plan.name}: ${evidence.count} ${evidence.count === 1 ? 'entry' : 'entries'} built in full (${plan.fullReason}), ${written}`
      return `${plan.name}: +${evidence.inserted} ~${evidence.updated} -${evidence.deleted} of ${evidence.parentCount}, ${written}`
    })
    .join('; ')
}
