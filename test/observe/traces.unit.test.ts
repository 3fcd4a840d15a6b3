import { readFileSync } from 'node:fs'
import { expect, it, vi } from 'vitest'
import { openTraces, PACKAGES } from '../../src/observe/traces.ts'
import { npmInstall } from '../../src/package-version.ts'

it('traces without their packages are refused, naming what to install', async () => {
  vi.doMock('@opentelemetry/exporter-trace-otlp-http', () => {
    throw new Error('Cannot find package')
  })
  await expect(openTraces('http://localhost:4318/v1/traces')).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(npmInstall(PACKAGES)),
  })
})

it('they are to be installed in the versions that the worker is made for', () => {
  const { peerDependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
  const command = npmInstall(PACKAGES)
  for (const name of PACKAGES) expect(command).toContain(` ${name}@${peerDependencies[name]}`)
})
