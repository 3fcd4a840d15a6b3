import { parentPort, workerData } from 'node:worker_threads'
import { measureDrift } from '../../activities/drift.ts'
import { readManifest } from '../../activities/parent.ts'
import type { Config, TableIndex } from '../../schemas/config.ts'
import type { VersionRef } from '../../schemas/pointer.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import { openStore } from '../../src/stores/open.ts'

export interface DriftThreadData {
  database: Config['database']
  storeUrl: string
  dataset: string
  folder: string
  index: string
  definition: TableIndex
  version: VersionRef
}

/** Compares a version with its source in full, in a thread whose heap the test has bounded. */
const { database, storeUrl, dataset, folder, index: name, definition, version } = workerData as DriftThreadData
const store = await openStore(storeUrl, { dataset })
const manifest = await readManifest(store, dataset, version)
const drift = await measureDrift({ builder: () => connectBuilder(database) }, store, {
  manifest,
  name,
  definition,
  mode: 'full',
  sample: 1,
  folder,
  signal: new AbortController().signal,
})
await store.close()
parentPort?.postMessage(drift)
