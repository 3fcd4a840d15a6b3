import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { newBlockCache } from '../../src/reader/block-reader.ts'
import { ByteBudget } from '../../src/reader/byte-budget.ts'
import { keyBytes } from '../../src/reader/key.ts'
import { lookUpAll } from '../../src/reader/look-up.ts'
import { Source } from '../../src/reader/source.ts'
import type { OpenIndex } from '../../src/reader/version.ts'
import { kept } from './closing.ts'
import { storeKinds, testStore } from './stores.ts'

/** Values that do not compress are stored as they are, and a store may give them as views into one large read. */
const contents = {
  'that do not compress': () => randomBytes(300).toString('base64'),
  'that compress': () => 'x'.repeat(400),
  'of a few bytes': () => 1,
}

test.each(storeKinds)('cached blocks of a %s store keep alive what they are counted for, and no more', async (kind) => {
  const { store, dataset } = await testStore(kind)
  kept(store)
  for (const [name, value] of Object.entries(contents)) {
    const ids = Array.from({ length: 400 }, (_, id) => `${id}`)
    const { ref } = await dataset.publish({
      values: { kind: 'unique', bits: 8, entries: ids.map((id) => [id, value()] as const) },
    })
    const blocks = newBlockCache(64 << 20)
    const source = new Source(dataset.name, store, { pages: new ByteBudget(64 << 20), blocks }, '')
    const version = await source.open(ref)
    const index = version.indexes.get('values') as OpenIndex
    const keys = ids.map((id) => keyBytes(id, index))
    const readBlocks = () => lookUpAll(version, index, keys, (raw, _, __, cached) => ({ raw, cached }))
    expect((await readBlocks()).some(({ cached }) => cached)).toBe(false)
    const found = await readBlocks()
    expect(found.every(({ cached }) => cached)).toBe(true)
    const raws = new Set(found.map(({ raw }) => raw))
    const counted = [...raws].map((raw) => raw.length)
    const alive = [...raws].map((raw) => raw.buffer.byteLength)
    expect([name, alive]).toEqual([name, counted])
  }
})
