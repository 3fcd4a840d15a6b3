import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { copies } from '../src/registry/copies.ts'
import { restoreVersion } from '../src/registry/restore-version.ts'
import { encodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import type { Store } from '../src/stores/ports.ts'
import { copyBetween, stands } from './copy-version.ts'
import type { Looking } from './damage.ts'
import type { Deps } from './deps.ts'

/** A version that is back in the first store. */
export interface BuiltBack {
  ref: VersionRef
  /** Name of the store that it came from. */
  from: string
}

/**
 * Copies a version that the first store has lost back into it, from the first further store that has it whole. It lies elsewhere then, so it has another
 * manifest, of the same digest. Null: none has it; one that does not answer is not waited for, since the source can always be built from.
 *
 * @param bases versions that lie whole in the first store.
 */
export async function buildBack(
  deps: Pick<Deps, 'pool' | 'log' | 'furtherStores'>,
  store: Store,
  looking: Looking,
  lost: VersionRef,
  bases: readonly VersionRef[],
): Promise<BuiltBack | null> {
  const { dataset, signal } = looking
  const { tag, digest } = lost
  for (const { name, store: from } of await deps.furtherStores(dataset)) {
    try {
      const copy = (await copies(deps.pool, { dataset, url: from.url })).get(tag)
      if (copy?.digest !== digest || !(await stands(from, copy))) continue
      const { manifest } = await copyBetween({ ...looking, from, to: store, ref: copy, bases })
      const sha256 = manifestHash(encodeManifest(manifest))
      const { generation } = manifest
      const restored = { dataset, tag, digest, manifest: sha256, generation, url: store.url, from: from.url }
      await restoreVersion(deps.pool, restored)
      deps.log.warn({ dataset, version: tag, step: 'reconcile', store: store.url, from: from.url }, 'copied back')
      return { ref: { ...lost, manifest: sha256 }, from: name }
    } catch (error) {
      if (!isSnapflipError(error) || signal.aborted) throw error
      deps.log.warn({ err: error, dataset, version: tag, step: 'reconcile', from: from.url }, 'not copied back')
    }
  }
  return null
}
