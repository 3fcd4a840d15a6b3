import { expect, test } from 'vitest'
import { race } from './race.ts'
import { storeKinds, testStore } from './stores.ts'
import { twoStepPointer } from './two-step-pointer.ts'

const FLIPS = 200
/** A flip costs the S3 server of the tests half a second, and more beside other tests. */
const TIMEOUT_MS = 900_000

test.each(storeKinds)(
  'eight readers of a %s store see no mix of two versions, no wrong miss and no late version in flips, canaries and rollbacks',
  { timeout: TIMEOUT_MS },
  async (kind) => {
    const { url, store, dataset } = await testStore(kind)
    const result = await race({ url, store, dataset: dataset.name, flips: FLIPS })
    await store.close()
    expect({ tears: result.tears, late: result.late, errors: result.errors, first: result.firstErrors }).toEqual({
      tears: [],
      late: [],
      errors: {},
      first: [],
    })
    // The test means something only when much was read, pinned, followed and deleted.
    expect(result.reads).toBeGreaterThan(10 * FLIPS)
    expect(result.pins).toBeGreaterThan(FLIPS / 2)
    expect(result.flips).toBeGreaterThan(FLIPS)
    expect(result.aside).toBeGreaterThan(0)
    expect(result.swept).toBeGreaterThan(FLIPS / 3)
  },
)

test('the same race finds mixes when the pointer is moved in two steps', { timeout: 300_000 }, async () => {
  const { url, store, dataset } = await testStore('redis')
  const result = await race({ url, store: twoStepPointer(store, dataset.name), dataset: dataset.name, flips: 30 })
  await store.close()
  expect(result.tears.length).toBeGreaterThan(0)
})
