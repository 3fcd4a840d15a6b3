import { expect, test } from 'vitest'
import { gateTable } from '../../src/cli/gate-table.ts'

test('the evidence has the verdict as it was judged, and who waived it, until when and why', () => {
  const told = gateTable([
    {
      gate: 'user:desk',
      index: null,
      verdict: 'reject',
      summary: 'desk.example.com says abort',
      actual: {},
      limit: {},
      sampleKeys: ['sha256:00'],
      waived: { by: 'ana', until: '2026-05-19T00:00:00.000Z', reason: 'the brand was sold' },
    },
  ])
  expect(told).toMatch(
    /^reject +user:desk +\S+ +desk\.example\.com says abort \(waived by ana until 2026-05-19T00:00:00\.000Z: the brand was sold\)$/m,
  )
  expect(told).toContain('user:desk, some keys: sha256:00')
})
