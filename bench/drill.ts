import { type DrillOutcome, WORKFLOW_ID } from '../schemas/refresh.ts'
import { open } from '../src/index.ts'
import { INDEX, type World } from './world.ts'

const READERS = 8
/** Readers are heard of as often; it is no part of what is measured, which is told by when each adopted the version. */
const REPORT_MS = 100

/** A drill as an operator asks for it, and what it says of itself, with 8 readers that read without pause. */
export async function drill(world: World, dataset: string): Promise<DrillOutcome> {
  const readers = await Promise.all(
    Array.from({ length: READERS }, () => open(world.redisUrl, dataset, { reportMs: REPORT_MS })),
  )
  let reading = true
  const readings = readers.map(async (reader) => {
    while (reading) await reader.get(INDEX, 1 + Math.floor(Math.random() * world.rows))
  })
  try {
    // Until all have reported once: who was not heard of before is not waited for.
    await new Promise((resolve) => setTimeout(resolve, 5 * REPORT_MS))
    return await world.client.workflow.execute<(request: object) => Promise<DrillOutcome>>('drill', {
      workflowId: WORKFLOW_ID.drill(dataset),
      taskQueue: world.config.temporal.taskQueue,
      args: [{ dataset, reason: 'bench' }],
    })
  } finally {
    reading = false
    await Promise.all(readings)
    for (const reader of readers) await reader.close()
  }
}
