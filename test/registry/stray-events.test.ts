import { expect, it } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { strayEvents } from '../../src/registry/stray-events.ts'
import { testDatabase } from '../support/services.ts'
import { DATASET } from './shop.ts'

it('events of a mistyped dataset or index are found, those of an applied index are not', async () => {
  const { pool, drop } = await testDatabase({})
  const definition = datasetSchema.parse({ stores: ['hot'], indexes: { labels: { events: true } } })
  await applyDefinition(pool, { dataset: DATASET, definition })
  expect(await strayEvents(pool)).toEqual([])
  for (const [dataset, index, key] of [
    [DATASET, 'labels', 'a'],
    [DATASET, 'labels', 'b'],
    [DATASET, 'label', 'a'],
    [DATASET, 'label', 'b'],
    ['shopp', 'labels', 'a'],
  ])
    await pool.query(`select snapflip.append($1, $2, $3::text, '1'::jsonb)`, [dataset, index, key])
  expect(await strayEvents(pool)).toEqual([
    { dataset: DATASET, index: 'label', events: 2 },
    { dataset: 'shopp', index: 'labels', events: 1 },
  ])
  await drop()
})
