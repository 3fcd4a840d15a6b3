import { expect, it, vi } from 'vitest'
import { openTraces } from '../../src/observe/traces.ts'

it('traces without their packages are refused, naming what to install', async () => {
  vi.doMock('@opentelemetry/exporter-trace-otlp-http', () => {
    throw new Error('Cannot find package')
  })
  await expect(openTraces('http://localhost:4318/v1/traces')).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringMatching(/npm install @temporalio\/interceptors-opentelemetry .*exporter-trace-otlp-http$/),
  })
})
