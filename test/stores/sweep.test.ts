import { afterEach, describe, expect, it } from 'vitest'
import type { Location, Manifest } from '../../schemas/manifest.ts'
import { SET } from '../../src/snapshot/entry.ts'
import { sweepVersion } from '../../src/snapshot/retire.ts'
import { verifyVersion } from '../../src/snapshot/verify.ts'
import { openStore } from '../../src/stores/open.ts'
import type { DataStore, Store } from '../../src/stores/ports.ts'
import { never, type Op } from '../snapshot/build.ts'
import { CUT_OFF, CutOff } from '../snapshot/cut-off.ts'
import { buildVersion, objectsOf } from '../snapshot/versions.ts'
import { testBucket, testFolder, testRedis, uniqueName } from '../support/services.ts'

const STORES: Array<[string, () => Promise<string>]> = [
  ['folder', async () => (await testFolder()).url],
  ['Redis', async () => testRedis().then(({ url, prefix }) => `${url}?prefix=${prefix}`)],
  ['S3', async () => (await testBucket()).url],
]

const opened: Store[] = []
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close()
})

describe.each(STORES)('a sweep in a %s store', (_name, newUrl) => {
  it('that is cut off at any of its deletes is finished by the next, and nothing is deleted that stays', async () => {
    const url = await newUrl()
    const open = async () => {
      const store = await openStore(url, { dataset: `d${uniqueName()}` })
      opened.push(store)
      return store.data
    }
    for (let cut = 0; ; cut++) {
      const data = await open()
      const { leaving, retained, objects } = await fiveVersions(data)
      const faulty = new CutOff(data, cut)
      const sweep = async (through: DataStore) => {
        const left = [...leaving]
        for (let next = left.shift(); next !== undefined; next = left.shift())
          await sweepVersion(through, next, { retained, leaving: left, onDamage: (error) => expect(error).toBeNull() })
      }
      const outcome = await sweep(faulty).catch((error) => error)
      await sweep(data)
      const needed = new Set<string>()
      for (const manifest of retained) {
        expect((await verifyVersion(data, manifest, { signal: never })).problems).toEqual([])
        for (const location of await objectsOf(data, manifest)) needed.add(unit(data, location))
      }
      const found = await data.read(objects)
      const left = new Set(objects.filter((_, n) => found[n] !== null).map((location) => unit(data, location)))
      expect([...left].sort(), `cut at delete ${cut}`).toEqual([...needed].sort())
      const generations = (await data.generations()).map(({ generation }) => generation)
      expect(new Set(generations)).toEqual(new Set([...needed].map((name) => name.slice(0, 32))))
      if (outcome === undefined) break
      expect(outcome).toBe(CUT_OFF)
    }
  })
})

/**
 * Four versions that leave, and one that stays upon the first of them, as after rollbacks. The third leads to blocks of the first, through
 * a page of the second that the fourth has replaced: so to delete what the second wrote before the third was swept would lose the way to them.
 */
async function fiveVersions(
  data: DataStore,
): Promise<{ leaving: Manifest[]; retained: Manifest[]; objects: Location[] }> {
  const set = (value: string, keys: number[]): Op[] => keys.map((n) => ({ op: SET, key: `key ${n}`, value }))
  const upTo = (count: number) => Array.from({ length: count }, (_, n) => n)
  const version = (ordinal: number, parent: Manifest | null, products: number[], stock: number[]) => {
    const ops = { products: set(`${ordinal}`, products), stock: set(`${ordinal}`, stock) }
    return buildVersion(data, ordinal, ops, { parent, bits: 9 })
  }
  const one = await version(1, null, upTo(300), upTo(200))
  // Key 0 lies in the second page, key 3 in the first.
  const two = await version(2, one, [0], [0])
  const three = await version(3, two, [3], [3])
  const many = upTo(60).filter((n) => n >= 20)
  const four = await version(4, two, many, [7])
  const five = await version(5, one, many, [8])
  const objects: Location[] = []
  for (const manifest of [one, two, three, four, five]) objects.push(...(await objectsOf(data, manifest)))
  return { leaving: [one, two, four, three], retained: [five], objects }
}

function unit(data: DataStore, { generation, pack, offset }: Location): string {
  return data.layout === 'packs' ? `${generation}/${pack}` : `${generation}/${pack}/${offset}`
}
