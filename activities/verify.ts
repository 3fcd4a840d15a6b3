import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import type { Alert } from '../src/observe/alert.ts'
import { openReader } from '../src/reader/open.ts'
import type { Reader } from '../src/reader/reader.ts'
import { recordEvent } from '../src/registry/record.ts'
import { version as versionRow } from '../src/registry/version.ts'
import { sampleBlocks } from '../src/snapshot/read.ts'
import { openStore } from '../src/stores/open.ts'
import { type Deps, datasetOf, storeUrl } from './deps.ts'
import { asActivity, heartbeating } from './failure.ts'
import { readManifest } from './parent.ts'

/** Entries of each index that are read back through the SDK; all of them where there are no more. */
const ENTRIES_MAX = 10_000
/** Keys a call of the SDK is given at once. */
const KEYS_A_CALL = 500

/** Reads the version back as readers do, once it is active. What does not read back is told, and thrown as VERIFY_FAILED. */
export const verify =
  (deps: Deps) =>
  ({ dataset, version }: { dataset: string; version: VersionRef }): Promise<{ summary: string }> =>
    asActivity(() => heartbeating((tell, signal) => readBack(deps, dataset, version, 'VERIFY_FAILED', tell, signal)))

/** The same after a rollback: when its target is unhealthy, a person must look; the pointer is not moved again by itself. */
export const verifyRollback =
  (deps: Deps) =>
  ({ dataset, tag }: { dataset: string; tag: string }): Promise<{ summary: string }> =>
    asActivity(() =>
      heartbeating(async (tell, signal) => {
        const row = await versionRow(deps.pool, dataset, tag)
        const ref = { tag, ordinal: row.ordinal, digest: row.digest ?? '', manifest: row.manifestSha256 ?? '' }
        return readBack(deps, dataset, ref, 'ROLLBACK_UNHEALTHY', tell, signal)
      }),
    )

async function readBack(
  deps: Deps,
  dataset: string,
  version: VersionRef,
  kind: Extract<Alert['kind'], 'VERIFY_FAILED' | 'ROLLBACK_UNHEALTHY'>,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<{ summary: string }> {
  try {
    const read = await readThroughSdk(deps, dataset, version, tell, signal)
    deps.log.info({ dataset, version: version.tag, step: 'verify', keys: read }, 'read back through the SDK')
    return { summary: `${read} keys read back through the SDK` }
  } catch (error) {
    // A store that does not answer says nothing about the version; the activity is tried again.
    if (!isSnapflipError(error) || error.retryable) throw error
    const summary = `${version.tag} of ${dataset} does not read back: ${error.message}`
    deps.alert({ kind, dataset, version: version.tag, summary })
    const detail = { code: error.code, message: error.message }
    await recordEvent(deps.pool, {
      dataset,
      actor: null,
      kind: `alert.${kind.toLowerCase()}`,
      version: version.tag,
      detail,
    })
    throw new SnapflipError('VERIFY_FAILED', summary, { dataset, tag: version.tag, kind }, error)
  }
}

async function readThroughSdk(
  deps: Deps,
  dataset: string,
  version: VersionRef,
  tell: (progress: string) => void,
  signal: AbortSignal,
): Promise<number> {
  datasetOf(deps.config, dataset)
  const store = await deps.store(dataset)
  const manifest = await readManifest(store, dataset, version)
  const reader = await openReader([await openStore(storeUrl(deps.config, dataset), { dataset })], dataset)
  let read = 0
  try {
    for (const [name, index] of Object.entries(manifest.indexes)) {
      const expected = await sampleBlocks(store.data, { dataset, index: name, tag: version.tag }, index, ENTRIES_MAX)
      const byKey = Map.groupBy(expected, (entry) => entry.key.toString('utf8'))
      const keys = [...byKey.keys()]
      for (let from = 0; from < keys.length; from += KEYS_A_CALL) {
        signal.throwIfAborted()
        const some = keys.slice(from, from + KEYS_A_CALL)
        await Promise.all(
          some.map(async (key) => {
            const wanted = (byKey.get(key) ?? []).map((entry) => entry.value)
            const found = await valuesOf(reader, name, index.kind, key)
            if (wanted.length !== found.length || wanted.some((value, n) => !value.equals(found[n] as Buffer))) {
              throw new SnapflipError(
                'CORRUPT',
                `a key of ${name} reads as ${found.length} other values than the ${wanted.length} that were sealed.`,
                { dataset, tag: version.tag, index: name },
              )
            }
          }),
        )
        read += some.length
        tell(`${name}: ${read} keys read back`)
      }
    }
    if (reader.version.tag !== version.tag) {
      deps.log.warn(
        { dataset, version: version.tag, active: reader.version.tag },
        'another flip came while the version was read back',
      )
    }
    return read
  } finally {
    await reader.close()
  }
}

async function valuesOf(reader: Reader, index: string, kind: 'unique' | 'many', key: string): Promise<Buffer[]> {
  const parts = key.split('\0')
  if (kind === 'many') return reader.listBytes(index, parts)
  const value = await reader.getBytes(index, parts)
  return value === undefined ? [] : [value]
}
