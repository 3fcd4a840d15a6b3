import type { TestProject } from 'vitest/node'
import { startBroker } from './service-broker.ts'

declare module 'vitest' {
  interface ProvidedContext {
    brokerSocket: string
  }
}

/** Runs once per `vitest` run; returns what ends it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const broker = await startBroker()
  project.provide('brokerSocket', broker.socketPath)
  return broker.stop
}
