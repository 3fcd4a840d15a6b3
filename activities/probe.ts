import type { Probed } from '../src/core/canary-judgement.ts'
import { isSnapflipError, SnapflipError } from '../src/core/errors.ts'
import { openReader } from '../src/reader/open.ts'
import { hashedKey } from '../src/snapshot/hashed-key.ts'
import { sampleBlocks } from '../src/snapshot/read.ts'
import { openStore } from '../src/stores/open.ts'
import type { Store } from '../src/stores/ports.ts'
import { type Deps, storeUrl } from './deps.ts'
import { readManifest } from './parent.ts'
import { reportsOf } from './reports.ts'

/** Keys a call of the SDK is given at once. */
const KEYS_A_CALL = 500

export interface Probe {
  dataset: string
  /** Tag of the version that is compared with the active one. */
  candidate: string
  /** Whose readers' keys come first, besides those of the active version's flip. */
  watchId: string
  /** Of each index. */
  keysMax: number
  tell: (progress: string) => void
  signal: AbortSignal
}

/** A pin of the SDK, so that what is read goes the way of every reader. */
type Pinned = Awaited<ReturnType<Awaited<ReturnType<typeof openReader>>['pin']>>

/** Reads the same keys on the candidate and on the active version through the SDK: those that readers asked for of late, then a sample. */
export async function probeVersions(deps: Deps, store: Store, probe: Probe): Promise<Probed> {
  const { dataset, candidate, tell, signal } = probe
  const found: Probed = {
    keys: 0,
    failedOnCandidate: 0,
    failedOnActive: 0,
    missingOnCandidate: 0,
    missingOnActive: 0,
    cause: null,
    sampleKeys: [],
  }
  await atVersions(deps, dataset, candidate, async (pins) => {
    const keys = await keysOf(deps, store, probe, pins)
    for (const [index, wanted] of keys) {
      for (let from = 0; from < wanted.length; from += KEYS_A_CALL) {
        signal.throwIfAborted()
        const some = wanted.slice(from, from + KEYS_A_CALL)
        const onCandidate = await present(pins.candidate, index, some)
        const onActive = await present(pins.active, index, some)
        found.cause ??= onCandidate.cause
        for (const [n, key] of some.entries()) {
          const [here, there] = [onCandidate.there[n] ?? null, onActive.there[n] ?? null]
          if (here === null && there !== null) found.failedOnCandidate++
          if (there === null && here !== null) found.failedOnActive++
          if (here === false && there === true) found.missingOnCandidate++
          if (there === false && here === true) found.missingOnActive++
          if ((here === null && there !== null) || (here === false && there === true))
            found.sampleKeys.push(hashedKey(Buffer.from(key)))
        }
        found.keys += some.length
        tell(`${index}: ${found.keys} keys probed`)
      }
    }
  })
  return found
}

/** By a store and a reader of its own: nothing is answered from what this worker has cached. */
async function atVersions(
  deps: Deps,
  dataset: string,
  candidate: string,
  work: (pins: { candidate: Pinned; active: Pinned }) => Promise<void>,
): Promise<void> {
  const own = await openStore(storeUrl(deps.config, dataset), { dataset })
  const reader = await openReader([own], dataset, { reportMs: 0 }).catch(async (error: unknown) => {
    await own.close()
    throw error
  })
  try {
    const active = (await own.pointer.read())?.pointer.active?.tag
    if (active === undefined) {
      throw new SnapflipError(
        'NO_ACTIVE_VERSION',
        `Expected an active version of ${dataset} to compare ${candidate} with, found none.`,
        {
          dataset,
        },
      )
    }
    await work({ candidate: await reader.pin({ version: candidate }), active: await reader.pin({ version: active }) })
  } finally {
    await reader.close()
  }
}

/** Keys of each index, as text with a zero byte between parts; never more than are wanted. */
async function keysOf(
  deps: Deps,
  store: Store,
  { dataset, watchId, keysMax }: Probe,
  pins: { candidate: Pinned; active: Pinned },
): Promise<Map<string, string[]>> {
  const manifest = await readManifest(store, dataset, pins.active.version)
  const candidate = await readManifest(store, dataset, pins.candidate.version)
  const flipId = (await store.pointer.read())?.pointer.flipId ?? null
  const reports = await Promise.all(
    [watchId, ...(flipId === null ? [] : [flipId])].map((id) => reportsOf(deps, dataset, id)),
  )
  const keys = new Map<string, string[]>()
  for (const [name, index] of Object.entries(manifest.indexes)) {
    const recent = reports.flat().flatMap(({ recentKeys }) => recentKeys[name] ?? [])
    const where = { dataset, index: name, tag: manifest.tag }
    // Taken out of the definition: that matters to readers that ask for it, and to nobody else.
    const isTakenOut = candidate.indexes[name] === undefined
    const sampled = isTakenOut ? [] : await sampleBlocks(store.data, where, index, Math.min(keysMax, index.count))
    const all = [...recent, ...sampled.map(({ key }) => key.toString('utf8'))]
    keys.set(name, [...new Set(all)].slice(0, keysMax))
  }
  return keys
}

/** Whether each key is there; null where it could not be read. And why not, of the first of them. */
export interface Present {
  there: Array<boolean | null>
  cause: string | null
}

/** @throws what says nothing of the version: a store that does not answer, a fault of this code. */
export async function present(
  pin: Pick<Pinned, 'getManyBytes'>,
  index: string,
  keys: readonly string[],
): Promise<Present> {
  const parts = keys.map((key) => key.split('\0'))
  const ask = async (some: readonly string[][]) => {
    try {
      return { found: await pin.getManyBytes(index, some), cause: null }
    } catch (error) {
      if (!isSnapflipError(error) || error.retryable) throw error
      return { found: null, cause: error.message }
    }
  }
  const { found } = await ask(parts)
  if (found !== null) return { there: found.map((values) => (values?.length ?? 0) > 0), cause: null }
  // One of them cannot be read; which one shows where each is asked for alone.
  const all: Present = { there: [], cause: null }
  for (const key of parts) {
    const { found, cause } = await ask([key])
    all.there.push(found === null ? null : (found[0]?.length ?? 0) > 0)
    all.cause ??= cause
  }
  return all
}
