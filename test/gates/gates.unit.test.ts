import { describe, expect, it } from 'vitest'
import type { IndexEvidence } from '../../schemas/evidence.ts'
import { gatesSchema } from '../../schemas/gates.ts'
import { changeVolume } from '../../src/gates/change-volume.ts'
import { columnShares } from '../../src/gates/column-shares.ts'
import { distinctShare } from '../../src/gates/distinct-share.ts'
import { drift } from '../../src/gates/drift.ts'
import { type GateSubject, heaviest } from '../../src/gates/gate.ts'
import { isSound, judge } from '../../src/gates/index.ts'
import { integrity } from '../../src/gates/integrity.ts'
import { nullShare } from '../../src/gates/null-share.ts'
import { requiredKeys } from '../../src/gates/required-keys.ts'
import { rowCounts } from '../../src/gates/row-counts.ts'
import { sourceSchema } from '../../src/gates/source-schema.ts'
import { uniqueness } from '../../src/gates/uniqueness.ts'
import { valueSchema } from '../../src/gates/value-schema.ts'
import { hashedKey } from '../../src/snapshot/hashed-key.ts'

const limits = gatesSchema.parse({})
async function* nothing(): AsyncGenerator<never> {}

function subject(evidence: Partial<IndexEvidence> = {}, rest: Partial<GateSubject> = {}): GateSubject {
  const whole: IndexEvidence = {
    build: 'incremental',
    reason: null,
    parentCount: 100_000,
    count: 100_000,
    parentBytes: 50_000_000,
    bytes: 50_000_000,
    inserted: 0,
    updated: 10,
    deleted: 0,
    sourceCount: null,
    notCompared: null,
    duplicates: { count: 0, sampleKeys: [] },
    formerShape: null,
    shape: 'a',
    blocksWritten: 1,
    bytesWritten: 1,
    ...evidence,
  }
  return {
    index: 'products',
    kind: 'unique',
    evidence: whole,
    history: async () => [],
    entries: () => nothing(),
    missing: async () => [],
    changes: () => nothing(),
    columns: null,
    comparedAt: async () => null,
    reread: async () => ({ count: whole.count, blocks: 1, bytes: 1, shares: null, faults: [] }),
    drift: async () => ({
      compared: 5,
      setAside: 0,
      different: [],
      differentCount: 0,
      notCompared: null,
      bothWays: true,
    }),
    ...rest,
  }
}

describe('change volume', () => {
  it.each([
    { changed: { deleted: 10_000 }, verdict: 'pass' },
    { changed: { deleted: 10_001 }, verdict: 'reject' },
    { changed: { inserted: 50_001 }, verdict: 'hold' },
    { changed: { updated: 50_001 }, verdict: 'hold' },
    { changed: { updated: 50_001, deleted: 10_001 }, verdict: 'reject' },
    { changed: { deleted: 1_000, parentCount: 1_500 }, verdict: 'pass' },
    { changed: { deleted: 1_001, parentCount: 1_500 }, verdict: 'reject' },
    { changed: { inserted: 90_000, parentCount: 0 }, verdict: 'pass' },
    // However few they are: most of a small index gone is no small change.
    { changed: { deleted: 100, count: 0, parentCount: 100 }, verdict: 'hold' },
    { changed: { deleted: 91, count: 9, parentCount: 100 }, verdict: 'hold' },
    { changed: { deleted: 90, count: 10, parentCount: 100 }, verdict: 'pass' },
    { changed: { deleted: 3, count: 0, parentCount: 3 }, verdict: 'hold' },
  ])('$changed gives $verdict', async ({ changed, verdict }) => {
    expect(await changeVolume(subject(changed), limits)).toMatchObject({ verdict })
  })
})

describe('change volume in bytes', () => {
  const declared = (bytes: object) => gatesSchema.parse({ changeVolume: { bytes } })
  it.each([
    { bytes: 100_000_000, verdict: 'pass' },
    { bytes: 100_000_001, verdict: 'hold' },
    { bytes: 40_000_000, verdict: 'pass' },
    { bytes: 39_999_999, verdict: 'reject' },
    // Under the absolute minimum.
    { bytes: 100, parentBytes: 1, verdict: 'pass' },
    { bytes: 7_000_000, parentBytes: 0, verdict: 'pass' },
    { bytes: null, parentBytes: null, verdict: 'pass' },
  ])('$bytes of $parentBytes gives $verdict', async ({ verdict, ...bytes }) => {
    const limits = declared({ grown: { percent: 100 }, shrunk: { percent: 20, verdict: 'reject' } })
    expect(await changeVolume(subject(bytes), limits)).toMatchObject({ verdict })
  })

  it('is not judged unless it is declared', async () => {
    const { verdict, limit } = await changeVolume(subject({ bytes: 1 }), limits)
    expect(verdict).toBe('pass')
    expect(Object.keys(limit)).not.toContain('bytesShrunk')
  })
})

describe('change volume, calibrated', () => {
  const calibrated = gatesSchema.parse({
    changeVolume: { calibrate: { minimum: 3 }, deleted: { percent: 10, atLeast: 20, verdict: 'reject' } },
  })
  const history = (deleted: readonly number[]) => async (versions: number) =>
    deleted.slice(0, versions).map((count, n) => ({
      tag: `v20260518-0${deleted.length - n}`,
      evidence: subject({ deleted: count }).evidence,
    }))
  const judged = (deleted: number, before: readonly number[], limits = calibrated) =>
    changeVolume(subject({ deleted }, { history: history(before) }), limits)

  it('a change far from the median of good versions is refused long before the declared limit', async () => {
    // Median 100, MAD 2: 100 + 6 × 1.4826 × 2 = 117.8.
    const before = [100, 98, 102, 103, 97]
    expect(await judged(118, before)).toMatchObject({ verdict: 'pass' })
    const refused = await judged(119, before)
    expect(refused).toMatchObject({
      verdict: 'reject',
      limit: { deleted: 118, deletedMedian: 100, deletedMad: 2 },
      summary: expect.stringMatching(
        /119 deleted .*allowed are 118 \(usual are 100, median of 5 versions\); by median and MAD of 5 versions, v20260518-01 to v20260518-05$/,
      ),
    })
    expect(refused.limit.baseline).toBe('median and MAD of 5 versions, v20260518-01 to v20260518-05')
  })

  it('says for which directions the declared limits stand: those that too few versions have counted', async () => {
    const versions = [1, 2, 3].map((n) => ({
      tag: `v20260518-0${n}`,
      evidence: subject({ deleted: 100, updated: n === 1 ? null : 5 }).evidence,
    }))
    const found = await changeVolume(subject({ deleted: 1 }, { history: async () => versions }), calibrated)
    expect(found.limit.baseline).toBe(
      'median and MAD of 3 versions, v20260518-03 to v20260518-01; declared limits for updated: known of fewer than 3 of these',
    )
    expect(found.limit).not.toHaveProperty('updatedMedian')
  })

  it('one bad version in the history does not widen the limit', async () => {
    expect(await judged(200, [100, 98, 9_000, 103, 97])).toMatchObject({ verdict: 'reject' })
  })

  it('never falls below the absolute minimum, nor rises above what is declared', async () => {
    expect(await judged(20, [1, 1, 1])).toMatchObject({ verdict: 'pass', limit: { deleted: 20 } })
    expect(await judged(21, [1, 1, 1])).toMatchObject({ verdict: 'reject' })
    expect(await judged(10_001, [50_000, 60_000, 70_000])).toMatchObject({
      verdict: 'reject',
      limit: { deleted: 10_000 },
    })
  })

  it('with too little history the declared limits stand, and the evidence says so', async () => {
    expect(await judged(9_999, [1, 1])).toMatchObject({
      verdict: 'pass',
      limit: { deleted: 10_000, baseline: 'declared limits: only 2 of 3 versions of history' },
    })
  })

  it.each([
    [{ minimum: 30 }, 'expected at most `versions` (20)'],
    [{ versions: -1 }, '>=2'],
    [{ deviations: 0 }, '>0'],
  ])('refuses %j', (calibrate, expected) => {
    const parsed = gatesSchema.safeParse({ changeVolume: { calibrate } })
    expect(parsed.error?.issues[0]?.message).toContain(expected)
  })
})

it('a full build that could not be compared warns, and is judged by what its counts tell', async () => {
  const notCompared = 'a page is damaged'
  expect(await changeVolume(subject({ notCompared }), limits)).toMatchObject({
    verdict: 'warn',
    summary: expect.stringContaining(notCompared),
  })
  expect(await changeVolume(subject({ notCompared, deleted: 10_001 }), limits)).toMatchObject({ verdict: 'reject' })
  expect(await changeVolume(subject({ notCompared, parentCount: 0 }), limits)).toMatchObject({ verdict: 'warn' })
})

it('row counts say when only the build itself was asked', async () => {
  expect((await rowCounts(subject(), limits)).summary).toContain('as the build itself')
  expect((await rowCounts(subject({ sourceCount: 100_000 }), limits)).summary).toContain('as the source')
})

it('row counts refuse a version whose entries do not add up, by the parent or by the source', async () => {
  expect(await rowCounts(subject({ count: 100_001 }), limits)).toMatchObject({
    verdict: 'reject',
    limit: { entries: 100_000 },
  })
  expect(await rowCounts(subject({ count: 7, sourceCount: 8 }), limits)).toMatchObject({
    verdict: 'reject',
    limit: { entries: 8 },
  })
  expect(await rowCounts(subject({ count: 100_003, inserted: 5, deleted: 2 }), limits)).toMatchObject({
    verdict: 'pass',
  })
})

it('integrity refuses a version that does not read back as written', async () => {
  const faulty = subject(
    {},
    { reread: async () => ({ count: 100_000, blocks: 1, bytes: 1, shares: null, faults: ['block 7 is truncated'] }) },
  )
  expect(await integrity(faulty, limits)).toMatchObject({
    verdict: 'reject',
    summary: expect.stringContaining('block 7'),
  })
  const short = subject({}, { reread: async () => ({ count: 99_999, blocks: 1, bytes: 1, shares: null, faults: [] }) })
  expect(await integrity(short, limits)).toMatchObject({ verdict: 'reject' })
})

it('drift is compared as often as declared, and each full build', async () => {
  const often: typeof limits = { ...limits, drift: { ...limits.drift, everyMs: 60_000 } }
  const ago = (ms: number) => ({ comparedAt: async () => new Date(Date.now() - ms) })
  const compared = { actual: { compared: 5 } }
  expect(await drift(subject({}, ago(1_000)), often)).toMatchObject({
    verdict: 'pass',
    actual: { comparedAt: expect.any(String) },
  })
  expect(await drift(subject({}, ago(1_000)), limits)).toMatchObject(compared)
  expect(await drift(subject({}, ago(61_000)), often)).toMatchObject(compared)
  expect(await drift(subject({}, {}), often)).toMatchObject(compared)
  expect(await drift(subject({ build: 'full' }, ago(1_000)), often)).toMatchObject(compared)
})

it('drift refuses one key that differs, and says when nothing could be compared', async () => {
  const drifted = subject(
    {},
    {
      drift: async () => ({
        compared: 5,
        setAside: 1,
        different: ['#ab'],
        differentCount: 1,
        notCompared: null,
        bothWays: true,
      }),
    },
  )
  expect(await drift(drifted, limits)).toMatchObject({ verdict: 'reject', sampleKeys: ['#ab'] })
  const unknown = subject(
    {},
    {
      drift: async () => ({
        compared: 0,
        setAside: 5,
        different: [],
        differentCount: 0,
        notCompared: 'its source moved on',
        bothWays: false,
      }),
    },
  )
  expect(await drift(unknown, limits)).toMatchObject({
    verdict: 'warn',
    summary: 'not compared: its source moved on',
  })
  expect(await drift(subject({}, { drift: null }), limits)).toMatchObject({
    verdict: 'pass',
    summary: expect.stringContaining('not compared'),
  })
})

it('a changed shape gives the verdict that the definition asks for', async () => {
  const held = gatesSchema.parse({ sourceSchema: { verdict: 'hold' } })
  expect(await sourceSchema(subject({ formerShape: 'b' }), held)).toMatchObject({ verdict: 'hold' })
  expect(await sourceSchema(subject(), held)).toMatchObject({ verdict: 'pass' })
})

/** Entries as a store gives them. */
async function* entriesOf(values: readonly unknown[]) {
  yield values.map((value, n) => ({ key: Buffer.from(`key ${n}`), value: Buffer.from(JSON.stringify(value)) }))
}

it('keys that no version may lack: those that are missing are named, each once, of several parts too', async () => {
  const declared = gatesSchema.parse({ requiredKeys: { products: { keys: [1, '1', 'b', ['a', 2]], verdict: 'hold' } } })
  const asked: string[] = []
  const lacking = (missing: string[]) =>
    subject(
      {},
      {
        missing: async (keys) => {
          asked.push(...keys.map(String))
          return keys.filter((key) => missing.includes(String(key)))
        },
      },
    )
  expect(await requiredKeys(lacking([]), declared)).toMatchObject({
    verdict: 'pass',
    summary: 'all 3 required keys are there',
  })
  expect(asked).toEqual(['1', 'b', 'a\0' + '2'])
  expect(await requiredKeys(lacking(['b', 'a\0' + '2']), declared)).toMatchObject({
    verdict: 'hold',
    summary: '2 of 3 required keys are missing: "b", ["a",2]',
    actual: { missing: 2 },
    sampleKeys: [hashedKey('b'), hashedKey('a\0' + '2')],
  })
})

describe('shares of value columns', () => {
  const declared = gatesSchema.parse({
    columns: {
      products: {
        price: { nullShare: { max: 0.25 }, distinctShare: { min: 0.5, verdict: 'hold' } },
        brand: { nullShare: { max: 0 } },
      },
    },
  })
  const columns = ['price', 'brand']
  const judged = (values: readonly unknown[], count = values.length) => {
    const judging = subject(
      { count },
      { columns: () => columnShares(entriesOf(values), { columns, whole: null, count }) },
    )
    return Promise.all([nullShare(judging, declared), distinctShare(judging, declared)])
  }
  const row = (price: unknown, brand: unknown = 'acme') => ({ price, brand })

  it('more nulls than declared are refused; a column that the value lacks is null', async () => {
    const [nulls] = await judged([row(1), row(2), row(3), row(null)])
    expect(nulls).toMatchObject({ verdict: 'pass', actual: { price: 0.25, brand: 0, entries: 4 } })
    const [refused] = await judged([row(1), row(null), row(3), { price: null }])
    expect(refused).toMatchObject({
      gate: 'nullShare',
      verdict: 'reject',
      summary: 'price is null in 50 %, at most 25 % may be; brand is null in 25 %, at most 0 % may be (all 4 entries)',
      limit: { price: 0.25, brand: 0 },
    })
  })

  it('a column that became one value is refused, of the entries that have one', async () => {
    const [, distinct] = await judged([row(1), row(1), row(2), row(null), row(null)])
    expect(distinct).toMatchObject({ verdict: 'pass', actual: { price: 2 / 3 } })
    const [, same] = await judged([row(0), row(0), row(0)], 7000)
    expect(same).toMatchObject({
      gate: 'distinctShare',
      verdict: 'hold',
      summary: 'price has 1 distinct of 3 values (33.33 %), expected 50 % to 100 % (a sample of 3 of 7000 entries)',
    })
    const [, none] = await judged([row(null)])
    expect(none).toMatchObject({ verdict: 'pass', actual: { price: null } })
  })

  it('a value that is no object is the column it is declared as; long values are told apart', async () => {
    const values = [null, 'x'.repeat(1000), `${'x'.repeat(1000)}y`, [1]]
    const { columns: found } = await columnShares(entriesOf(values), { columns: ['id'], whole: 'id', count: 4 })
    expect(found).toEqual({ id: { nulls: 1, distinct: 3 } })
  })
})

describe('a value schema', () => {
  const schema = { type: 'object', properties: { price: { type: 'number', minimum: 0 } }, required: ['price'] }
  const judged = (values: readonly unknown[], judge = 'changed', evidence: Partial<IndexEvidence> = {}) => {
    const changed = async function* () {
      for await (const batch of entriesOf(values))
        yield batch.map(({ key, value }) => ({
          key,
          before: null,
          after: value.equals(Buffer.from('0')) ? null : value,
        }))
    }
    const limits = gatesSchema.parse({ valueSchema: { products: { schema, judge, sample: 3 } } })
    const rest = { entries: (sample?: number) => entriesOf(Array(sample ?? 5).fill({ price: -1 })), changes: changed }
    return valueSchema(subject(evidence, rest), limits)
  }

  it('judges what changed, and names the part of the schema, never a value', async () => {
    const { gate, verdict, summary, sampleKeys, actual } = await judged([{ price: 1 }, { price: -7 }, { cost: 1 }, 0])
    expect({ gate, verdict, actual }).toEqual({
      gate: 'valueSchema',
      verdict: 'reject',
      actual: { judged: 3, failed: 2 },
    })
    expect(summary).toBe(
      '2 of 3 changed entries are not as the schema says: #/properties/price/minimum (1), #/required (1)',
    )
    expect(sampleKeys).toEqual([hashedKey('key 1'), hashedKey('key 2')])
  })

  it.each([
    ['changed', { build: 'unchanged' }, 0],
    ['changed', { build: 'full' }, 5],
    ['all', {}, 5],
    ['sample', {}, 3],
    ['sample', { count: 2 }, 5],
  ] as const)('%s of %j looks at %i entries', async (judge, evidence, expected) => {
    expect((await judged([], judge, evidence)).actual.judged).toBe(expected)
  })
})

it('uniqueness refuses a repeated key', async () => {
  expect(await uniqueness(subject({ duplicates: { count: 2, sampleKeys: ['7'] } }), limits)).toMatchObject({
    verdict: 'reject',
    sampleKeys: ['7'],
  })
})

it('all gates run, whatever the first ones say', async () => {
  const bad = subject({ duplicates: { count: 1, sampleKeys: [] }, count: 1 })
  const results = await judge([bad], limits, () => undefined)
  expect(results.map((result) => result.gate)).toEqual([
    'sourceSchema',
    'uniqueness',
    'rowCounts',
    'changeVolume',
    'drift',
    'integrity',
  ])
  const declared = gatesSchema.parse({
    columns: {
      products: { price: { nullShare: { max: 1 }, distinctShare: { max: 1 } } },
      other: { x: { nullShare: { max: 1 } } },
    },
    requiredKeys: { products: { keys: ['1'] }, other: { keys: ['2'] } },
    valueSchema: { products: { schema: {} } },
  })
  const more = (await judge([subject()], declared, () => undefined)).map((result) => result.gate)
  expect(more.slice(6)).toEqual(['requiredKeys', 'nullShare', 'distinctShare', 'valueSchema'])
  // What does not read back is not read again to judge what it says.
  const damaged = subject(
    {},
    { reread: async () => ({ count: 0, blocks: 0, bytes: 0, shares: null, faults: ['gone'] }) },
  )
  const found = await judge([damaged], declared, () => undefined)
  expect(found).toHaveLength(6)
  expect(isSound(found)).toBe(false)
  expect(heaviest(results.map((result) => result.verdict))).toBe('reject')
})
