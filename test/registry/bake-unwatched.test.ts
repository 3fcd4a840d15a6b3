import { expect, test } from 'vitest'
import { endUnwatchedBake } from '../../activities/bake-unwatched.ts'
import type { Deps } from '../../activities/deps.ts'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { flipOf, flips } from '../../src/registry/flips.ts'
import { testDatabase } from '../support/services.ts'
import { applyShop, DATASET, flipped, move } from './shop.ts'

test('a bake that is late is not unwatched while the workflow that is to start its watch is at work', async () => {
  const { pool, drop } = await testDatabase()
  await applyShop(pool)
  const first = await flipped(pool, null)
  const second = await flipped(pool, first)
  const [bad] = await flips(pool, DATASET, 1)
  const flipId = await move(pool, { kind: 'rollback', from: second, to: first, bakeMs: 1 })
  const told: string[] = []
  const looked = async (running: string | null) => {
    const isRunning = async (workflowId: string) => workflowId === running
    const alert = async ({ summary }: { summary: string }) => void told.push(summary)
    const startBake = async () => {
      throw new Error('it is over')
    }
    await endUnwatchedBake({ pool, isRunning, alert, startBake } as unknown as Deps, DATASET, async () => true)
    return (await flipOf(pool, flipId))?.bakeOutcome
  }
  const starters = [
    WORKFLOW_ID.bake(DATASET, flipId),
    WORKFLOW_ID.rollback(DATASET),
    WORKFLOW_ID.rollbackBeside(DATASET, bad?.flipId as string),
    WORKFLOW_ID.rollbackBeside(DATASET, first),
    WORKFLOW_ID.flipTo(DATASET),
  ]
  for (const running of starters) expect(await looked(running), running).toBeNull()
  expect(told).toEqual([])
  expect(await looked(null)).toBe('cutShort')
  expect(told).toEqual([expect.stringContaining(`nobody watches ${first}`)])
  await drop()
})
