import { expect, test } from 'vitest'
import { type ConfigInput, datasetSchema } from '../../schemas/config.ts'
import { agentGuide } from '../../src/cli/agent-guide.ts'
import { declaredOptions } from '../../src/cli/definition-defaults.ts'
import { changeText } from '../../src/core/definition-changes.ts'

/** Each option of a dataset, as nothing says it by itself. */
const ALL = {
  stores: ['hot', 'archive'],
  publish: { onFailure: 'rollback' },
  indexes: {
    rates: {
      from: 'public.rates',
      key: 'code',
      value: 'rate',
      capture: 'none',
      rebuildAfterMs: 4_001,
      keyBytesMax: 65,
    },
    log: { events: true, valueBytesMax: 4_002 },
  },
  gates: {
    changeVolume: {
      deleted: { percent: 11, atLeast: 4_003, verdict: 'warn' },
      shrunk: { percent: 81, verdict: 'reject' },
      bytes: { grown: { percent: 301, atLeast: 4_004 } },
      calibrate: { versions: 31, minimum: 7, deviations: 4.5 },
    },
    drift: { mode: 'full', everyMs: 4_005 },
    sourceSchema: { verdict: 'hold' },
    columns: { rates: { rate: { nullShare: { max: 0.125 } } } },
    columnSample: 4_006,
    valueSchema: { rates: { schema: { type: 'number' }, judge: 'sample', sample: 4_007 } },
    user: { odd: { kind: 'sql', sql: 'select from changes', timeoutMs: 4_008 } },
  },
  canary: { share: 0.06, ramp: [0.21], forMs: 4_009, maxWorse: { misses: 0.02 }, probe: { keys: 4_010 } },
  bake: { forMs: 4_011, max: { errors: 0.07 }, drift: { sample: 501 }, whileBaking: 'end' },
  roles: { operator: ['bo'], admin: ['ana'] },
  may: { drill: 'admin' },
  approval: { when: 'always', beforeFlip: true, escalate: { afterMs: 4_012, sinks: ['night'] } },
  schedule: { cron: '30 2 * * *', timezone: 'Asia/Kathmandu', jitterMs: 4_013, catchUpMs: 14_014 },
  windows: { open: [{ from: '22:00', to: '06:00' }], onClose: 'keepCandidate' },
  retries: { attempts: 9, maxMs: 34_015, codes: ['STORE_UNAVAILABLE'], tell: ['night'] },
  ttl: { budgetMs: 4_016, beyond: 'refuse' },
  keep: 8,
  retireAfterMs: 4_017,
  evidenceMaxAgeMs: 4_018,
} satisfies ConfigInput['datasets'][string]

const shownOf = (declared: unknown) => {
  return declaredOptions(datasetSchema.parse(declared)).map(changeText)
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
/** Each option's name with what is declared of it. */
const leavesOf = (value: object): Array<readonly [string, unknown]> =>
  Object.entries(value).flatMap(([name, inner]) => (isObject(inner) ? leavesOf(inner) : [[name, inner] as const]))

test('of a new dataset every option that it declares is shown, by path', () => {
  expect(Object.keys(ALL).sort()).toEqual(Object.keys(datasetSchema.shape).sort())
  const shown = shownOf(ALL)
  for (const [name, value] of leavesOf(ALL)) {
    const found = shown.some(
      (line) => line.split(': ')[0]?.split('.').includes(name) || line.includes(`"${name}":${JSON.stringify(value)}`),
    )
    expect(found && shown.some((line) => line.includes(JSON.stringify(value))), `${name} ${value}`).toBe(true)
  }
  expect(shown).toContain('gates.changeVolume.deleted.atLeast: 1000 → 4003')
  expect(shown).toContain('retireAfterMs: 60000 → 4017')
})

test("an assistant's guide names every rule that a dataset declares", () => {
  const guide = agentGuide({ datasets: { shop: datasetSchema.parse(ALL) } }, { runbook: 'incident.md' })
  const { stores, indexes, ...rules } = ALL
  const { from, key, value, ...ofRates } = indexes.rates
  for (const [name, declared] of leavesOf({ ...rules, ofRates })) {
    const found = guide.split('\n').some((line) => line.includes(name) && line.includes(JSON.stringify(declared)))
    expect(found, `${name} ${declared}`).toBe(true)
  }
  expect(guide).toContain('  - `ttl: {"budgetMs":4016,"beyond":"refuse"}`')
  expect(guide).not.toContain('public.rates')
})

test('what holds by itself is not shown', () => {
  const indexes = { rates: { from: 'public.rates', key: 'code', value: 'rate' } }
  expect(shownOf({ stores: ['hot'], indexes })).toEqual([
    'indexes.rates.from: nothing → "public.rates"',
    'indexes.rates.key: nothing → "code"',
    'indexes.rates.value: nothing → "rate"',
    'stores: nothing → ["hot"]',
  ])
})
