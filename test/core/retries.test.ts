import { expect, it } from 'vitest'
import { type Retries, retriesSchema } from '../../schemas/retries.ts'
import { expiredByMs } from '../../src/core/expiry.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { afterFailure } from '../../src/core/retries.ts'
import { lastReadAt, youngIndexes } from '../../src/core/time-bound.ts'

const declared = (retries: object): Retries =>
  retriesSchema.parse({ attempts: 4, initialMs: 100, factor: 3, maxMs: 500, ...retries })

it('each retry waits longer than the one before, up to a limit, until they are used up', () => {
  const waits = [1, 2, 3, 4].map((attempt) => afterFailure(declared({}), { code: 'STORE_UNREACHABLE', attempt }))
  expect(waits).toEqual([
    { retryInMs: 100 },
    { retryInMs: 300 },
    { retryInMs: 500 },
    { retryInMs: null, why: '4 attempts are used up' },
  ])
})

it('what time alone cannot mend is retried only where it is named', () => {
  const failed = { code: 'DEFINITION_INVALID', attempt: 1 } as const
  expect(afterFailure(declared({}), failed)).toMatchObject({
    retryInMs: null,
    why: 'DEFINITION_INVALID is not retried',
  })
  expect(afterFailure(declared({ codes: ['DEFINITION_INVALID'] }), failed)).toEqual({ retryInMs: 100 })
  expect(
    afterFailure(declared({ codes: ['DEFINITION_INVALID'] }), { code: 'STORE_UNREACHABLE', attempt: 1 }),
  ).toMatchObject({ retryInMs: null })
  expect(afterFailure(declared({}), { code: null, attempt: 1 })).toMatchObject({ why: 'INTERNAL is not retried' })
  expect(afterFailure(undefined, { code: 'STORE_UNREACHABLE', attempt: 1 })).toMatchObject({ retryInMs: null })
})

it.each([{ attempts: 0 }, { initialMs: -1 }, { factor: 0.5 }, { initialMs: 600 }, { codes: [] }])(
  'retries that cannot be are refused: %j',
  (part) => {
    expect(() => declared(part)).toThrow()
  },
)

const at = (minute: number) => `2026-05-18T10:${String(minute).padStart(2, '0')}:00.000Z`

it('a version is expired when it is known to be current only up to longer ago than its budget', () => {
  const pointer = {
    ...emptyPointer('shop'),
    active: { tag: 'v20260518-01', ordinal: 1, digest: '', manifest: '' },
    freshAsOf: { snapshot: '1:1:', at: at(0) },
    ttl: { budgetMs: 60_000, beyond: 'mark' as const },
  }
  expect(expiredByMs(pointer, new Date(at(1)))).toBeNull()
  expect(expiredByMs(pointer, new Date(at(2)))).toBe(60_000)
  expect(expiredByMs({ ...pointer, ttl: null }, new Date(at(2)))).toBeNull()
  expect(expiredByMs({ ...pointer, active: null }, new Date(at(2)))).toBeNull()
})

it('a source without capture is young until its age is over, from when it was read last', () => {
  const definition = { indexes: { report: { rebuildAfterMs: 300_000 }, live: {} } } as never
  const manifest = { watermark: { at: at(10) }, indexes: { report: { readAt: at(2) }, live: {} } } as never
  const read = (freshAsOfAt: string | null) => ({ manifest, freshAsOfAt })
  expect(lastReadAt(read(null), 'report')).toEqual(new Date(at(2)))
  expect(lastReadAt(read(at(10)), 'report')).toEqual(new Date(at(2)))
  // The pointer moves beyond the version only where every source was read.
  expect(lastReadAt(read(at(20)), 'report')).toEqual(new Date(at(20)))
  expect(youngIndexes(definition, read(null), new Date(at(6)))).toEqual(new Set(['report']))
  expect(youngIndexes(definition, read(null), new Date(at(7)))).toEqual(new Set())
})
