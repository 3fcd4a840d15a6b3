import { expect, test } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { probeVersions } from '../../activities/probe.ts'
import { kept } from '../reader/closing.ts'
import { shop } from '../reader/shop.ts'
import { testStore } from '../reader/stores.ts'
import { report } from '../stores/reports.ts'

test('an index that the candidate lacks is probed with the keys that readers asked it for, if any did', async () => {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  const active = await dataset.publish(shop(1))
  const { prices: _, byCategory: __, ...without } = shop(2)
  const candidate = await dataset.build(without)
  const { flipId } = (await dataset.pointer()) ?? {}
  const recentKeys = { prices: ['de\x007', 'de\x008'] }
  await store.counters.put(report({ watchId: flipId ?? '', tag: active.ref.tag, recentKeys }))
  const deps = {
    config: { stores: { main: url }, datasets: { [dataset.name]: { stores: ['main'] } } },
    store: async () => store,
    furtherStores: async () => [],
  } as unknown as Deps
  const probe = { dataset: dataset.name, candidate: candidate.ref.tag, watchId: 'canary', keysMax: 50 }
  const found = await probeVersions(deps, store, { ...probe, tell() {}, signal: new AbortController().signal })
  expect(found).toMatchObject({ failedOnCandidate: 2, failedOnActive: 0, missingOnCandidate: 0 })
  expect(found.cause).toContain('has no index "prices"')
})
