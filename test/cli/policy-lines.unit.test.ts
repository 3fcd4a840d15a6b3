import { expect, test } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import { policyLines } from '../../src/cli/policy-lines.ts'

const INDEXES = { products: { from: 'public.products', key: 'id', value: 'id' } }

test('a definition without a policy is told with what holds by default', () => {
  const lines = policyLines(datasetSchema.parse({ stores: ['hot'], indexes: INDEXES }))
  expect(lines).toEqual([
    'refreshed when somebody asks',
    'a change beyond these shares of an index: inserted 50 % hold, updated 50 % hold, deleted 10 % reject',
    'drift between source and version: 1000 entries compared',
    'whoever may connect to the database may do everything',
    'in hot; 5 versions kept',
  ])
})

test('what is declared is told', () => {
  const lines = policyLines(
    datasetSchema.parse({
      stores: ['hot', 'archive'],
      indexes: INDEXES,
      schedule: { continuous: { atMostEveryMs: 2000 } },
      windows: { open: [{ days: ['sat'], from: '22:00', to: '06:00' }], timezone: 'Europe/Vienna', outside: 'skip' },
      canary: { share: 0.05, ramp: [0.2], forMs: 60_000 },
      bake: { forMs: 120_000 },
      approval: { when: 'onHold' },
      ttl: { budgetMs: 3_600_000, beyond: 'refuse' },
      roles: { operator: ['bo'], admin: ['ana'] },
    }),
  )
  expect(lines).toEqual(
    expect.arrayContaining([
      'refreshed as soon as there is something new, at most every 2 s',
      'within sat 22:00 to 06:00 (Europe/Vienna); outside it is skipped',
      'canary: 5 %, then 20 % of the readers first, for 60 s; worse: reject',
      'what a gate holds waits for an approval by another than who asked, for 24 h',
      'bake: watched for 120 s after the flip; the next flip waits for that',
      'older than 3600 s it is refused, and reported',
      'who may: operator bo; admin ana (approve: approver, roll back: operator, waive: approver)',
    ]),
  )
})
