import { expect, it } from 'vitest'
import { datasetSchema } from '../../schemas/config.ts'
import type { Verdict } from '../../schemas/refresh.ts'
import { nextLookMs, wantsApproval } from '../../src/core/approval.ts'

const HOUR_MS = 3_600_000
const at = (hours: number) => new Date(Date.UTC(2026, 4, 18) + hours * HOUR_MS)
const policy = (approval: object) =>
  datasetSchema.safeParse({ stores: ['a'], indexes: { a: { events: true } }, approval })

it.each([
  ['never', []],
  ['onHold', ['hold']],
  ['always', ['pass', 'warn', 'hold']],
] as const)('approval %s is wanted of %s, and never lets through what a gate rejects', (when, wanted) => {
  const approval = policy({ when }).data?.approval
  const all: Verdict[] = ['pass', 'warn', 'hold', 'reject']
  expect(all.filter((verdict) => wantsApproval(approval, verdict))).toEqual(wanted)
  expect(all.some((verdict) => wantsApproval(undefined, verdict))).toBe(false)
})

it('a request is looked at when something is due, and now and then; seldom enough for one workflow', () => {
  const waiting = { requestedAt: at(0), expiresAt: at(24), escalatesAt: at(2) }
  expect(nextLookMs(waiting, at(0))).toBe((24 * HOUR_MS) / 300)
  expect(nextLookMs(waiting, new Date(at(2).getTime() - 90_000))).toBe(90_000)
  expect(nextLookMs({ ...waiting, escalatesAt: null }, new Date(at(24).getTime() - 5_000))).toBe(5_000)
  expect(nextLookMs({ ...waiting, escalatesAt: null }, at(25))).toBe(1_000)
  expect(nextLookMs({ ...waiting, expiresAt: at(30 * 24) }, at(0))).toBe(2 * HOUR_MS)
})

it('a declaration by which nobody would be told, or that waits for ever, is refused', () => {
  expect(policy({ when: 'always', expiresAfterMs: 5_000, escalate: { afterMs: 5_000 } }).error?.message).toContain(
    'expected less than expiresAfterMs',
  )
  for (const wrong of [{}, { when: 'sometimes' }, { when: 'always', expiresAfterMs: -1 }])
    expect(policy(wrong).success).toBe(false)
})
