import { CommanderError } from 'commander'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { printError } from '../../src/cli/print-error.ts'
import { commandLine } from '../../src/cli/program.ts'
import { type Answer, ended } from '../../src/cli/verb.ts'
import { ERRORS } from '../../src/core/errors.ts'
import { quoted, runbooks, wordsOf } from '../house/quoted-commands.ts'
import { type Project, testProject } from './project.ts'
import type { startSnapflip } from './run.ts'

/**
 * Every command of a runbook's blocks is run, in the page's order, on real services; `shop`, `products 42` and the two tags stand for the test's own.
 * A command ends with 0, but for those named here.
 */
const ENDS: Record<string, Record<string, number>> = {
  // The command before went there.
  'runbooks/bad-version.md': {
    'snapflip rollback shop --to v20260518-01 --reason "last good one"': ERRORS.CONFLICT.exit,
  },
}

let project: Project
let worker: ReturnType<typeof startSnapflip>
let older = ''
let newer = ''

beforeAll(async () => {
  project = await testProject()
  expect((await run('snapflip apply --yes')).code).toBe(0)
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
  await run('snapflip refresh shop')
})
afterAll(async () => {
  worker.kill('SIGTERM')
  await worker.ended
})

/** In this process: what a process of its own adds is shown elsewhere. */
async function run(line: string): Promise<{ code: number; answer: Answer | null }> {
  const words = wordsOf(line)
    .slice(1)
    .map((word) => (word === 'shop' ? project.dataset : word))
    .map((word) => (word === 'v20260518-01' ? older : word === 'v20260518-02' ? newer : word))
  ended.length = 0
  try {
    await commandLine().parseAsync([...words, '--config', `${project.folder}/snapflip.config.json`], { from: 'user' })
    const answer = ended.at(-1)?.answer ?? null
    return { code: answer?.code === undefined ? 0 : ERRORS[answer.code].exit, answer }
  } catch (error) {
    if (error instanceof CommanderError) throw error
    return { code: printError(error, { json: false, verbose: false }), answer: null }
  }
}

/** Two versions, the newer one active and no hold: where every page begins. */
async function begin(): Promise<void> {
  await run('snapflip resume shop --reason "the next page"')
  const pages = runbooks.length
  for (const tag of ['older', 'newer'] as const) {
    await project.database.pool.query('update products set price_cents = price_cents + 1 where id <= $1', [pages])
    const { answer } = await run('snapflip refresh shop')
    expect(answer?.json).toMatchObject({ status: 'FLIPPED' })
    if (tag === 'older') older = tagOf(answer)
    else newer = tagOf(answer)
  }
}

const tagOf = (answer: Answer | null) => (answer?.json as { tag: string } | undefined)?.tag ?? ''

describe.each(runbooks)('%s', (page) => {
  const lines = quoted.filter((each) => each.page === page && each.whole).map(({ line }) => line)

  test('its commands do what they are there for', async () => {
    await begin()
    const wrong = []
    for (const line of lines) {
      const { code } = await run(line)
      if (code !== (ENDS[page]?.[line] ?? 0)) wrong.push(`${line}: ${code}`)
    }
    expect(wrong).toEqual([])
  })
})
