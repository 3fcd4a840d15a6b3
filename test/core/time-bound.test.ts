import { expect, it } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import { dueAt, type ReadVersion } from '../../src/core/time-bound.ts'

const items = { from: 'public.items', key: 'id', value: 'n' }
const totals = { from: 'public.totals', key: 'bucket', value: 'n', capture: 'none', rebuildAfterMs: 60_000 }
const captured = datasetSchema.parse({ stores: ['hot'], indexes: { items } })
const byAge = datasetSchema.parse({ stores: ['hot'], indexes: { items, totals } })
const version = { manifest: { indexes: {}, watermark: { at: '2026-05-18T10:00:00Z' } }, freshAsOfAt: null } as unknown
const due = (version: unknown, refusedAt: string | null) =>
  new Date(dueAt(byAge, version as ReadVersion | null, refusedAt)).toISOString()

it('a source without capture is due by its age, and as long after a refusal, which has read it too', () => {
  expect(due(version, null)).toBe('2026-05-18T10:01:00.000Z')
  expect(due(version, '2026-05-18T12:00:00Z')).toBe('2026-05-18T12:01:00.000Z')
  expect(due(version, '2026-05-18T09:00:00Z')).toBe('2026-05-18T10:01:00.000Z')
  expect(due(null, '2026-05-18T12:00:00Z')).toBe('2026-05-18T12:01:00.000Z')
  expect(dueAt(byAge, null, null)).toBeLessThan(Date.now())
  expect(dueAt(captured, null, '2026-05-18T12:00:00Z')).toBe(Number.POSITIVE_INFINITY)
})
