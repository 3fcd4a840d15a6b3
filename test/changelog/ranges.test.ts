import { expect, it } from 'vitest'
import { IndexScan } from '../../activities/scan-index.ts'
import { connectBuilder } from '../../src/changelog/session.ts'
import type { Source } from '../../src/changelog/source.ts'
import { RunMemory } from '../../src/snapshot/run-memory.ts'
import { testDatabase, testFolder } from '../support/services.ts'
import { resolve, resolveAndAttach } from './fold.ts'

const DEFINITION = { from: 'public.items', key: 'a', value: ['b'] }

it('begins anew when the primary key is another than the one whose ranges were read', async () => {
  const database = await testDatabase()
  const folder = await testFolder()
  const client = await connectBuilder(database.url)
  await client.query(`create table items (a int not null, b int not null, constraint one primary key (a));
    insert into items select g, 40000 - g from generate_series(1, 40000) g`)
  const open = (source: Source) => {
    const defaults = { many: false, capture: 'triggers' as const, keyBytesMax: 512, valueBytesMax: 1 << 20 }
    const definition = { ...defaults, ...DEFINITION }
    const plan = {
      name: 'items',
      definition,
      source,
      kind: 'unique' as const,
      former: null,
      young: false,
      fullReason: 'the first',
    }
    const memory = new RunMemory()
    const place = {
      dataset: 'shop',
      folder: folder.path,
      memory,
      tell: () => undefined,
      signal: new AbortController().signal,
    }
    return IndexScan.open(client, plan, place)
  }
  try {
    const source = await resolveAndAttach(client, DEFINITION)
    const scan = await open(source)
    await scan.beforeWatermark(client, () => connectBuilder(database.url))
    await scan.runs.close()
    const again = await open(await resolve(client, DEFINITION))
    expect(again.runs.finished).toHaveLength(2)
    await again.runs.close()

    await client.query('alter table items drop constraint one; alter table items add constraint one primary key (b)')
    const anew = await open(await resolve(client, DEFINITION))
    expect(anew.runs.finished).toHaveLength(0)
    await anew.runs.close()
  } finally {
    await client.end()
  }
})
