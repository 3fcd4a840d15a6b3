import { openStore } from '../../src/stores/open.ts'
import type { Store } from '../../src/stores/ports.ts'
import { testBucket, testFolder, testRedis, testRedisCluster, uniqueName } from '../support/services.ts'
import { TestDataset } from './dataset.ts'

export const storeKinds = ['folder', 'redis', 'redis in cluster mode', 's3'] as const
export type StoreKind = (typeof storeKinds)[number]

export interface TestStore {
  url: string
  dataset: TestDataset
  store: Store
  /** Another connection to the same dataset. */
  connect(): Promise<Store>
}

/** A dataset of its own in a store of the kind. */
export async function testStore(kind: StoreKind): Promise<TestStore> {
  const name = `d${uniqueName()}`
  const url = await urlOf(kind)
  const store = await openStore(url, { dataset: name })
  return { url, store, dataset: new TestDataset(name, store), connect: () => openStore(url, { dataset: name }) }
}

async function urlOf(kind: StoreKind): Promise<string> {
  switch (kind) {
    case 'folder':
      return (await testFolder()).url
    case 's3':
      return (await testBucket()).url
    case 'redis':
    case 'redis in cluster mode': {
      const redis = kind === 'redis' ? await testRedis() : await testRedisCluster()
      return `${redis.url}?prefix=${redis.prefix}`
    }
  }
}
