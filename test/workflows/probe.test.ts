import { expect, test } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import { probeVersions } from '../../activities/probe.ts'
import { kept } from '../reader/closing.ts'
import type { Content, IndexContent } from '../reader/dataset.ts'
import { shop } from '../reader/shop.ts'
import { testStore } from '../reader/stores.ts'
import { report } from '../stores/reports.ts'

/** What a probe finds of this candidate, where readers of the active version asked for these keys of late. */
async function probed(content: Content, recentKeys: Record<string, string[]>, keysMax: number) {
  const { url, store, dataset } = await testStore('folder')
  kept(store)
  const active = await dataset.publish(shop(1))
  const candidate = await dataset.build(content)
  const { flipId } = (await dataset.pointer()) ?? {}
  await store.counters.put(report({ watchId: flipId ?? '', tag: active.ref.tag, recentKeys }))
  const deps = {
    config: { stores: { main: url }, datasets: { [dataset.name]: { stores: ['main'] } } },
    store: async () => store,
    furtherStores: async () => [],
  } as unknown as Deps
  const probe = { dataset: dataset.name, candidate: candidate.ref.tag, watchId: 'canary', keysMax }
  return probeVersions(deps, store, { ...probe, tell() {}, signal: new AbortController().signal })
}

test('an index that the candidate lacks is probed with the keys that readers asked it for, if any did', async () => {
  const { prices: _, byCategory: __, ...without } = shop(2)
  const found = await probed(without, { prices: ['de\x007', 'de\x008'] }, 50)
  expect(found).toMatchObject({ failedOnCandidate: 2, failedOnActive: 0, missingOnCandidate: 0 })
  expect(found.cause).toContain('has no index "prices"')
})

test('of more keys than are probed, those that readers asked for of late come first', async () => {
  const recent = ['1490', '1491', '1492', '1493', '1494']
  const content = shop(2)
  const products = content.products as IndexContent
  const entries = products.entries.filter(([key]) => !recent.includes(String(key)))
  const candidate = { ...content, products: { ...products, entries } }
  const found = await probed(candidate, { products: recent }, recent.length)
  expect(found).toMatchObject({ missingOnCandidate: recent.length, missingOnActive: 0 })
})
