import { changePointer } from '../../src/stores/change-pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import { newGeneration, tagOf } from './versions.ts'

/** A process that writes to a folder store until it is killed: `node folder-writer.ts <url> <number>`. */
const [url = '', number = '0'] = process.argv.slice(2)
const store = await openStore(url, { dataset: 'shop' })
process.stdout.write('ready\n')
for (let n = 0; ; n++) {
  const kind = n % 2 === 0 ? 'quarantine' : 'release'
  await changePointer(store.pointer, { kind, tag: tagOf(Number(number)) }, { dataset: 'shop', attempts: 1000 })
  await store.leases.put({ id: `writer ${number}`, tag: tagOf(1), kind: 'build', ttlMs: 60_000 })
  const writer = await store.data.begin(newGeneration())
  await writer.put([Buffer.alloc(1 << 16, number)])
  await writer.finish()
}
