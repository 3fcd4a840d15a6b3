import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type RollbackOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { open } from '../src/index.ts'
import { openStore } from '../src/stores/open.ts'
import { INDEX, type World } from './world.ts'

const READERS = 8

export interface RollbackTimes {
  toPointerMs: number
  toLastReaderMs: number
  /** Until the workflow has read the version back and ended. */
  toEndMs: number
}

/** Asks for a rollback: through its workflow, or from a process of the command line, without Temporal. */
export type Ask = (world: World, dataset: string) => Promise<unknown>

export const byWorkflow: Ask = (world, dataset) =>
  world.client.workflow.execute<(request: object) => Promise<RollbackOutcome>>('rollback', {
    workflowId: WORKFLOW_ID.rollback(dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset, reason: 'bench' }],
  })

export const direct: Ask = (world, dataset) => {
  const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
  const args = ['rollback', dataset, '--direct', '--reason', 'bench', '--config', world.configFile]
  return promisify(execFile)(process.execPath, [main, ...args])
}

/** From the command (the start of the workflow, or of the process) to the pointer, and to the last of 8 readers that read without pause. */
export async function rollback(world: World, dataset: string, ask: Ask = byWorkflow): Promise<RollbackTimes> {
  const store = await openStore(world.redisUrl, { dataset })
  const before = (await store.pointer.read())?.pointer
  const target = before?.previous?.tag
  if (target === undefined) throw new Error(`${dataset} has no version to go back to`)
  const readers = await Promise.all(Array.from({ length: READERS }, () => open(world.redisUrl, dataset)))
  let reading = true
  const readings = readers.map(async (reader) => {
    while (reading) await reader.get(INDEX, 1 + Math.floor(Math.random() * world.rows))
  })
  const followed = readers.map(
    (reader) => new Promise<number>((resolve) => reader.on('flip', () => resolve(performance.now()))),
  )
  const stop = new AbortController()
  const pointed = new Promise<number>((resolve) => {
    store.pointer.watch({
      pollMs: 5,
      signal: stop.signal,
      onPointer: (read) => {
        if (read?.pointer.active?.tag === target) resolve(performance.now())
      },
      onError: () => undefined,
    })
  })
  try {
    const begun = performance.now()
    const ended = ask(world, dataset)
    const [pointer, last] = await Promise.all([pointed, Promise.all(followed).then((times) => Math.max(...times))])
    await ended
    return { toPointerMs: pointer - begun, toLastReaderMs: last - begun, toEndMs: performance.now() - begun }
  } finally {
    reading = false
    await Promise.all(readings)
    stop.abort()
    for (const reader of readers) await reader.close()
    await store.close()
  }
}
