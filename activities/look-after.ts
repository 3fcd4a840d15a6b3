import type { Config } from '../schemas/config.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { verifyVersion } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Adoption, adoptionOf } from './adoption.ts'
import type { Looking } from './damage.ts'
import { readManifest } from './parent.ts'
import { readThroughSdk } from './verify.ts'

/** What readers have after a rollback that was made without a worker. */
export interface LookedAfter {
  isHealthy: boolean
  /** Every block of the target, read again. */
  integrity: { blocks: number; corrupt: number; found: string | null }
  /** Keys read as readers read them; null: a later flip took readers elsewhere. */
  probes: { keys: number | null; found: string | null }
  readers: Adoption
  summary: string
}

/** Looks, and changes nothing: an unhealthy target is told, with what to do; the pointer is not moved again by itself. */
export async function lookAfter(
  { config, store }: { config: Config; store: Store },
  dataset: string,
  tag: string,
  { tell, signal }: Omit<Looking, 'dataset'>,
): Promise<LookedAfter> {
  const pointer = (await store.pointer.read())?.pointer ?? null
  const integrity = { blocks: 0, corrupt: 0, found: null as string | null }
  const probes = { keys: null as number | null, found: null as string | null }
  const ref = pointer?.active?.tag === tag ? pointer.active : null
  if (ref !== null) {
    try {
      const manifest = await readManifest(store, dataset, ref)
      const onProgress = ({ blocks }: { blocks: number }) => tell(`checking ${tag}: ${blocks} blocks`)
      const evidence = await verifyVersion(store.data, manifest, { signal, onProgress })
      for (const { blocks, corrupt } of Object.values(evidence.indexes)) {
        integrity.blocks += blocks
        integrity.corrupt += corrupt
      }
      integrity.found = evidence.problems[0]?.message ?? null
      probes.keys = await readThroughSdk({ config, store: async () => store }, dataset, ref, tell, signal)
    } catch (error) {
      if (!isSnapflipError(error) || error.retryable) throw error
      // Without its manifest no block was counted.
      if (integrity.blocks === 0) integrity.found ??= error.message
      else probes.found = error.message
    }
  }
  const readers = await adoptionOf(store, pointer)
  const isHealthy = integrity.found === null && probes.found === null
  const summary =
    ref === null
      ? `Readers were taken from ${tag} to ${pointer?.active?.tag ?? 'no version'} meanwhile.`
      : isHealthy
        ? `${tag} is whole: ${integrity.blocks} blocks read again, ${probes.keys ?? 0} keys read back as readers do. ${readers.summary}`
        : `${tag} is NOT healthy: ${integrity.found ?? probes.found} Name another version with --to. ${readers.summary}`
  return { isHealthy, integrity, probes, readers, summary }
}
