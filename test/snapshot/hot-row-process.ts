import { ADD, REMOVE } from '../../src/snapshot/entry.ts'
import { mergeRuns } from '../../src/snapshot/merge.ts'
import { openRuns } from '../../src/snapshot/runs.ts'
import { add, build, contents, encodeEntry, never, runsOptions, where } from './build.ts'
import { MemoryStore } from './memory-store.ts'

/** Updates one row over and over beside a few others, merges that, and tells what it took. Arguments: updates, bytes of the row. */
const [updates = 0, bytes = 0] = process.argv.slice(2).map(Number)
const store = new MemoryStore()
const others = Array.from({ length: 500 }, (_, n) => add(`other ${n}`, `value ${n}`))
const parent = await build(store, [[add('hot', 'as it was'), ...others]])

const runs = await openRuns(runsOptions())
const writer = runs.begin('changes')
const image = (n: number) =>
  encodeEntry({ key: 'hot', value: n === 0 ? 'as it was' : `${n} `.padEnd(bytes, 'x') }, false)
let before = image(0)
const last = new Map<string, string>()
for (let n = 1; n <= updates; n++) {
  const after = image(n)
  writer.entry(REMOVE, before, 0, before.length, 4, 7)
  writer.entry(ADD, after, 0, after.length, 4, 7)
  before = after
  // Others, of the same partition and not, in between.
  const key = `other ${n % others.length}`
  const was = last.get(key) ?? `value ${n % others.length}`
  last.set(key, `update ${n}`)
  for (const [op, value] of [
    [REMOVE, was],
    [ADD, `update ${n}`],
  ] as const) {
    const entry = encodeEntry({ key, value }, false)
    writer.entry(op, entry, 0, entry.length, 4, 4 + key.length)
  }
  await writer.ready()
}
await writer.finish()
const held = runs.bytes
const merged = await mergeRuns({
  where,
  runs,
  data: store,
  writer: await store.begin('e'.repeat(32)),
  index: { kind: 'unique', keyParts: 1, seed: parent.index.seed, shape: 'test', reason: null },
  parent: parent.index,
  signal: never,
})
await runs.remove()
const hot = (await contents(store, merged.index))
  .map((line) => JSON.parse(line) as string[])
  .find(([key]) => key === 'hot')
process.stdout.write(
  JSON.stringify({
    bytesInRuns: held,
    missed: merged.missed.count,
    counts: merged.counts,
    hot: hot?.[1]?.slice(0, 12),
    rssMegabytes: Math.round(process.resourceUsage().maxRSS / 1024),
  }),
)
