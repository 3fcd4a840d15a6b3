import { describe, expect, it } from 'vitest'
import { gatesSchema } from '../../schemas/config.ts'
import type { IndexEvidence } from '../../schemas/evidence.ts'
import { changeVolume } from '../../src/gates/change-volume.ts'
import { drift } from '../../src/gates/drift.ts'
import { type GateSubject, heaviest } from '../../src/gates/gate.ts'
import { judge } from '../../src/gates/index.ts'
import { integrity } from '../../src/gates/integrity.ts'
import { rowCounts } from '../../src/gates/row-counts.ts'
import { sourceSchema } from '../../src/gates/source-schema.ts'
import { uniqueness } from '../../src/gates/uniqueness.ts'

const limits = gatesSchema.parse({})

function subject(evidence: Partial<IndexEvidence> = {}, rest: Partial<GateSubject> = {}): GateSubject {
  const whole: IndexEvidence = {
    build: 'incremental',
    reason: null,
    parentCount: 100_000,
    count: 100_000,
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
  expect(heaviest(results.map((result) => result.verdict))).toBe('reject')
})
