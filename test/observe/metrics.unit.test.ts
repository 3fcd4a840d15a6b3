import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { metricsPage } from '../../scripts/metrics-page.ts'
import { METRICS, type MetricDeclaration } from '../../src/core/metrics.ts'
import { parseMetricsAddress } from '../../src/observe/metrics-server.ts'
import { WorkerMetrics } from '../../src/observe/worker-metrics.ts'
import { sampleOf, samplesOf } from './scrape.ts'

const declared = Object.entries<MetricDeclaration>(METRICS)

it('the page of metrics lists every metric as it is declared', async () => {
  expect(await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8')).toBe(metricsPage())
})

it('metrics are named as Prometheus expects: a unit last, and total where they are counted', () => {
  for (const [name, { kind }] of declared) {
    expect(name).toMatch(/^snapflip_[a-z_]+$/)
    expect(name.endsWith('_total'), name).toBe(kind === 'counter')
    if (kind === 'histogram') expect(name).toMatch(/_seconds$/)
  }
})

it('no label of a metric is one that a key, a tag or a reason would go into', () => {
  const known = [
    'dataset',
    'from',
    'index',
    'kind',
    'outcome',
    'part',
    'refreshing',
    'status',
    'step',
    'store',
    'tasks',
  ]
  expect([...new Set(declared.flatMap(([, { labels }]) => labels))].sort()).toEqual(known)
})

it('metrics are served for this machine alone unless a host is named', () => {
  expect(parseMetricsAddress('9464')).toEqual({ host: '127.0.0.1', port: 9464 })
  expect(parseMetricsAddress('0.0.0.0:9464')).toEqual({ host: '0.0.0.0', port: 9464 })
  expect(parseMetricsAddress('[::1]:0')).toEqual({ host: '::1', port: 0 })
})

it.each(['', 'x', '-1', '65536', '123456', '1.5', ':9464', 'host:', 'http://localhost:9464'])(
  'metrics at %j are refused with what is expected',
  (text) => {
    expect(() => parseMetricsAddress(text)).toThrow(/Expected --metrics to be a port, or host:port, such as 9464/)
  },
)

it('what was not measured this time is not told as if it were; what was counted stays', async () => {
  const metrics = new WorkerMetrics()
  const onHold = { name: 'snapflip_on_hold', labels: { dataset: 'shop' }, value: 1 } as const
  metrics.setGauges([onHold, { ...onHold, labels: { dataset: 'other' } }])
  const told: unknown[] = []
  const raise = metrics.countAlerts(async (alert) => told.push(alert) > 0)
  const alert = {
    kind: 'GATE_REFUSED',
    dataset: 'shop',
    version: null,
    incident: 'i',
    summary: 's',
    evidence: {},
  } as const
  await raise(alert)
  metrics.countScrapeError('registry')
  metrics.setGauges([onHold])
  const text = await metrics.registry.metrics()
  expect(samplesOf(text).filter(({ name }) => name === onHold.name)).toEqual([onHold])
  expect(sampleOf(text, 'snapflip_alerts_total', { dataset: 'shop', kind: 'GATE_REFUSED' })).toBe(1)
  expect(sampleOf(text, 'snapflip_scrape_errors_total', { part: 'registry' })).toBe(1)
  expect(told).toEqual([alert])
})
