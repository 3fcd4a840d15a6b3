import type { ClientBase } from 'pg'
import type { DatasetDefinition, IndexDefinition } from '../schemas/config.ts'
import type { IndexManifest } from '../schemas/manifest.ts'
import { attach, preflight } from '../src/changelog/capture.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import type { Source } from '../src/changelog/source.ts'
import { watermarkStillThere } from '../src/changelog/watermark.ts'
import { kindOf, whyFull } from '../src/changelog/why-full.ts'
import { currentSnapshot } from '../src/changelog/window.ts'
import { youngIndexes } from '../src/core/time-bound.ts'
import type { Parent } from './parent.ts'

/** How one index of the next version will be built. */
export interface IndexPlan {
  name: string
  definition: IndexDefinition
  source: Source
  kind: IndexManifest['kind']
  /** The parent's index of that name, whether or not its blocks can be built upon. */
  former: IndexManifest | null
  /** Null: from the changes alone. Else why the source is read in full. */
  fullReason: string | null
  /** Not looked at: its source has no capture, and was read lately enough. */
  young: boolean
}

/** How each index will be built. */
export interface Plans {
  indexes: IndexPlan[]
  /** The parent's watermark is not in this database's history. */
  lineageBroken: boolean
  /** Tables whose capture was put back. */
  attached: string[]
}

/**
 * Decides for each index whether the changes since the parent are all there and readable, and says why not. Capture that was taken off or
 * altered is put back first: the full build then begins a history without gaps.
 */
export async function planIndexes(
  client: ClientBase,
  options: {
    dataset: string
    definition: DatasetDefinition
    parent: Parent | null
    fullReason: string | null
    signal: AbortSignal
  },
): Promise<Plans> {
  const { dataset, definition, parent, signal } = options
  const sources: Source[] = []
  for (const [name, index] of Object.entries(definition.indexes)) {
    sources.push(await resolveSource(client, dataset, name, index))
  }
  const lineageBroken = parent !== null && !(await watermarkStillThere(client, parent.manifest.watermark))
  const faults = new Map<string, string>()
  if (parent !== null && !lineageBroken) {
    for (const table of await preflight(client, sources, parent.manifest.watermark, await currentSnapshot(client))) {
      if (!table.ok) faults.set(table.table, table.reason)
    }
  }
  const attached = (await attach(client, sources, signal)).filter(({ changed }) => changed).map(({ table }) => table)

  const young = parent === null ? new Set<string>() : youngIndexes(definition, parent, new Date())
  const indexes = sources.map((source): IndexPlan => {
    const index = definition.indexes[source.index] as IndexDefinition
    const former = parent?.manifest.indexes[source.index] ?? null
    const fullReason = whyFull(source, former, { lineageBroken, faults, asked: options.fullReason, young })
    return {
      name: source.index,
      definition: index,
      source,
      kind: kindOf(source),
      former,
      fullReason,
      young: fullReason === null && young.has(source.index),
    }
  })
  return { indexes, lineageBroken, attached }
}
