import type { Client, Pool } from 'pg'
import type { Config, DatasetDefinition } from '../schemas/config.ts'
import type { BakeRequest } from '../schemas/refresh.ts'
import { SnapflipError } from '../src/core/errors.ts'
import { own } from '../src/core/own.ts'
import type { GateFunctions } from '../src/gates/user-function.ts'
import type { RaiseAlert } from '../src/observe/alert.ts'
import type { Logger } from '../src/observe/log.ts'
import type { FurtherStore, Store } from '../src/stores/ports.ts'
import type { Starter } from '../src/temporal/starter.ts'

/** All that activities use of the world; composed once, in `src/worker.ts`. */
export interface Deps {
  config: Config
  /** Registry and short questions. */
  pool: Pool
  /** A connection of its own with the builder's pinned settings, for a watermark and what is read at it. The caller ends it. */
  builder(): Promise<Client>
  /** The dataset's first store, opened once a worker: the one that versions are built in. */
  store(dataset: string): Promise<Store>
  /** The stores that it is published to beside the first, in the declared order. */
  furtherStores(dataset: string): Promise<FurtherStore[]>
  log: Logger
  /** Gates that the definition file gives as functions. */
  functions: GateFunctions
  alert: RaiseAlert
  /** Where builds keep their runs; a retry on the same machine goes on from them. */
  workDir: string
  /** Who or what started a workflow, as the server recorded it: nobody's proof of anything. */
  starter(workflowId: string, runId: string): Promise<Starter>
  /** Whether a workflow of this id, or this run of it, is at work. */
  isRunning(workflowId: string, runId?: string): Promise<boolean>
  /** Starts the watch over what a flip made active. False: it was started before, and has ended perhaps. */
  startBake(bake: BakeRequest): Promise<boolean>
  /** Whether the Temporal server knows our search attributes. */
  searchable: boolean
}

export function datasetOf(config: Config, dataset: string): DatasetDefinition {
  const definition = own(config.datasets, dataset)
  if (definition === undefined) {
    const known = Object.keys(config.datasets).join(', ')
    throw new SnapflipError(
      'UNKNOWN_DATASET',
      `There is no dataset ${JSON.stringify(dataset)}; the definition has: ${known}.`,
      { dataset },
    )
  }
  return definition
}

/** The URL of a store of the dataset (the first without a name), credentials and all: never to be told. */
export function storeUrl(config: Config, dataset: string, name = datasetOf(config, dataset).stores[0]): string {
  const url = name === undefined ? undefined : config.stores[name]
  if (url !== undefined) return url
  const known = Object.keys(config.stores).join(', ')
  throw new SnapflipError('CONFIG_INVALID', `Dataset ${dataset} names the store ${name}; \`stores\` has: ${known}.`, {
    dataset,
  })
}
