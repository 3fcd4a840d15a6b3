import { type CounterReport, LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import { tagOf } from './versions.ts'

export function report(fields: Partial<CounterReport>): CounterReport {
  return {
    watchId: 'flip-1',
    side: 'active',
    tag: tagOf(1),
    readerId: 'reader',
    reads: 1,
    misses: 0,
    errors: 0,
    bad: 0,
    latencyMs: Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, () => 0),
    recentKeys: {},
    since: '2026-05-18T10:00:00.000Z',
    at: '2026-05-18T10:00:00.000Z',
    ...fields,
  }
}
