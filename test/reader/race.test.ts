import { expect, test } from 'vitest'
import { race } from './race.ts'
import { type StoreKind, storeKinds, testStore } from './stores.ts'
import { twoStepPointer } from './two-step-pointer.ts'

/** The pointer and what is read are decided alike in all of them: the slower ones show that their driver holds to it. */
const FLIPS: Record<StoreKind, number> = { folder: 200, redis: 200, 'redis in cluster mode': 60, s3: 60 }
/** A flip costs the S3 server of the tests half a second, and more beside other tests. */
const TIMEOUT_MS = 900_000

test.each(storeKinds)(
  'eight readers of a %s store see no mix of two versions, no wrong miss and no late version in flips, canaries and rollbacks',
  { timeout: TIMEOUT_MS },
  async (kind) => {
    const flips = FLIPS[kind]
    const { url, store, dataset } = await testStore(kind)
    const result = await race({ url, store, dataset: dataset.name, flips })
    await store.close()
    expect({ tears: result.tears, late: result.late, errors: result.errors, first: result.firstErrors }).toEqual({
      tears: [],
      late: [],
      errors: {},
      first: [],
    })
    // The test means something only when much was read, pinned, followed and deleted.
    expect(result.reads).toBeGreaterThan(10 * flips)
    expect(result.pins).toBeGreaterThan(flips / 2)
    expect(result.flips).toBeGreaterThan(flips)
    expect(result.aside).toBeGreaterThan(0)
    expect(result.swept).toBeGreaterThan(flips / 3)
  },
)

test('the same race finds mixes when the pointer is moved in two steps', { timeout: 300_000 }, async () => {
  const { url, store, dataset } = await testStore('redis')
  const result = await race({ url, store: twoStepPointer(store, dataset.name), dataset: dataset.name, flips: 30 })
  await store.close()
  expect(result.tears.length).toBeGreaterThan(0)
})
