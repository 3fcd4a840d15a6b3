import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ERRORS } from '../../src/core/errors.ts'
import { quoted, runbooks } from '../house/quoted-commands.ts'
import { type Desk, openDesk } from './runbook-desk.ts'
import { type Step, stagesOf } from './runbook-stages.ts'

/** Two dozen commands a page, beside all else that a machine with two cores is asked. */
vi.setConfig({ testTimeout: 240_000 })

/**
 * Every command of a runbook's blocks is run, in the page's order, on real services, in the incident that the page is for; `shop`, `products 42`, the
 * two tags and the time stand for the test's own. All end with 0, but for those that their stage says other of.
 */
let desk: Desk
let stages: ReturnType<typeof stagesOf>
beforeAll(async () => {
  desk = await openDesk()
  stages = stagesOf(desk)
})
afterAll(() => desk?.close())

describe.each(runbooks)('%s', (page) => {
  const lines = quoted.filter((each) => each.page === page && each.whole).map(({ line }) => line)

  test('its commands do what they are there for', async () => {
    for (const [incident, stage] of Object.entries(stages[page] ?? { 'as every page begins': {} })) {
      const steps = new Map(
        Object.entries(stage.steps ?? {}).map(([line, step]) => [line, [step].flat() as readonly Step[]]),
      )
      expect([...steps.keys()].filter((line) => !lines.includes(line))).toEqual([])
      await desk.begin(stage.in)
      await stage.begin?.()
      const found: string[] = []
      const times = new Map<string, number>()
      for (const line of lines) {
        const time = times.get(line) ?? 0
        times.set(line, time + 1)
        const { before, ends, says = [] } = steps.get(line)?.[time] ?? {}
        await before?.()
        const { code, text } = await desk.run(line)
        if (code !== (ends === undefined ? 0 : ERRORS[ends].exit)) found.push(`${incident}: ${line}: ${code}\n${text}`)
        for (const one of [says].flat())
          if (!one.test(text)) found.push(`${incident}: ${line} does not say ${one}:\n${text}`)
      }
      await stage.end?.()
      expect(found).toEqual([])
    }
  })
})
