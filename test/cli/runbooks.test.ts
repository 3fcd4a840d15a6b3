import { CommanderError } from 'commander'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { printError } from '../../src/cli/print-error.ts'
import { commandLine } from '../../src/cli/program.ts'
import { type Answer, ended } from '../../src/cli/verb.ts'
import { ERRORS, type ErrorCode } from '../../src/core/errors.ts'
import { freePort } from '../../src/local/free-port.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { quoted, runbooks, wordsOf } from '../house/quoted-commands.ts'
import { type Project, testProject } from './project.ts'
import type { startSnapflip } from './run.ts'

/**
 * Every command of a runbook's blocks is run, in the page's order, on real services; `shop`, `products 42` and the two tags stand for the test's
 * own. All end with 0, but for those named here.
 */
const STAGES: Record<string, Stage> = {
  'runbooks/bake-failed.md': {
    // The command before went there.
    ends: { 'snapflip rollback shop --to v20260518-01 --reason "the version before is unhealthy too"': ['CONFLICT'] },
  },
  'runbooks/approval-waiting.md': {
    // Nothing waits here: who may answer what is looked at in test/workflows/approval.test.ts.
    ends: {
      'snapflip approve shop v20260518-02 --reason "prices checked with the supplier"': ['APPROVAL_REFUSED'],
      'snapflip reject shop v20260518-02 --reason "the file was cut off"': ['APPROVAL_REFUSED'],
    },
  },
  'runbooks/bad-version.md': {
    // The command before went there.
    ends: { 'snapflip rollback shop --to v20260518-01 --reason "last good one"': ['CONFLICT'] },
  },
  'runbooks/changelog-growing.md': {
    // It is one or the other.
    before: { 'snapflip refresh shop --full --reason "after the bulk load"': () => apply() },
  },
  'runbooks/failed-gate.md': {
    begin: async () => {
      await project.database.pool.query(
        'create table kept as select * from products; delete from products where id > 700',
      )
      newer = tagOf((await run('snapflip refresh shop')).answer)
    },
    // The source was not corrected here.
    ends: { 'snapflip refresh shop --reason "import corrected"': ['REJECTED'] },
    end: async () => {
      await project.database.pool.query(
        'insert into products select * from kept on conflict do nothing; drop table kept',
      )
      newer = tagOf((await run('snapflip refresh shop')).answer)
      await run('snapflip waive shop v20260518-02 changeVolume --until 2126-01-01 --reason "rows are back"')
      await run('snapflip refresh shop')
    },
  },
  'runbooks/rollback-in-an-incident.md': {
    // The command before went there.
    ends: {
      'snapflip rollback shop --direct --to v20260518-01 --reason "still off, Temporal is down"': ['CONFLICT'],
    },
  },
  'runbooks/postgres-down.md': {
    before: {
      'snapflip status shop': async () => {
        const nowhere = `postgres://shop@127.0.0.1:${await freePort()}/shop`
        await project.define((definition) => ({ ...scheduled(definition), database: nowhere }))
      },
      'snapflip resume shop --keep-quarantine --reason "database is back"': () => project.define(scheduled),
    },
    ends: {
      'snapflip status shop': ['POSTGRES_UNREACHABLE'],
      'snapflip doctor': ['POSTGRES_UNREACHABLE'],
    },
  },
}

interface Stage {
  begin?: () => Promise<void>
  /** What happens before a command, the first time that the page has it. */
  before?: Record<string, () => Promise<void>>
  /** How a command ends the first time, the second time … */
  ends?: Record<string, readonly (ErrorCode | null)[]>
  end?: () => Promise<void>
}

type Definition = Project['definition']

let project: Project
let worker: ReturnType<typeof startSnapflip>
let older = ''
let newer = ''

beforeAll(async () => {
  // Progress and notes are for whoever sits before it.
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  project = await testProject()
  await project.define(scheduled)
  await apply()
  worker = project.start(['worker', '--work-dir', `${project.folder}/work`])
})
afterAll(async () => {
  worker.kill('SIGTERM')
  await worker.ended
})

function scheduled(definition: Definition): Definition {
  const dataset = definition.datasets[project.dataset]
  if (dataset !== undefined) dataset.schedule = { everyMs: 86_400_000 }
  return definition
}

async function apply(): Promise<void> {
  expect((await run('snapflip apply --yes')).code).toBe(0)
}

/** In this process: what a process of its own adds is shown elsewhere. */
async function run(line: string): Promise<{ code: number; answer: Answer | null }> {
  const words = wordsOf(line)
    .slice(1)
    .map((word) => (word === 'shop' ? project.dataset : word))
    .map((word) => (word === 'incident.json' ? `${project.folder}/${word}` : word))
    .map((word) => (word === 'v20260518-01' ? older : word === 'v20260518-02' ? newer : word))
  if (words[0] === 'worker') return runWorker()
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

async function runWorker(): Promise<{ code: number; answer: null }> {
  const another = project.start(['worker', '--work-dir', `${project.folder}/another`])
  await waitUntil('another worker to poll', () => (another.seen.stderr.includes('worker polls') ? true : undefined))
  another.kill('SIGTERM')
  return { code: (await another.ended).code, answer: null }
}

const tagOf = (answer: Answer | null) => (answer?.json as { tag: string } | undefined)?.tag ?? ''

/** Two versions, the newer one active and no hold: where every page begins. */
async function begin(): Promise<void> {
  await run('snapflip resume shop --keep-quarantine --reason "the next page"')
  const made = []
  while (made.length < 2) {
    await project.database.pool.query('update products set price_cents = price_cents + 1 where id <= 10')
    const { answer } = await run('snapflip refresh shop')
    expect(answer?.json).toMatchObject({ status: 'FLIPPED' })
    made.push(tagOf(answer))
  }
  ;[older = '', newer = ''] = made
}

describe.each(runbooks)('%s', (page) => {
  const lines = quoted.filter((each) => each.page === page && each.whole).map(({ line }) => line)

  test('its commands do what they are there for', async () => {
    const stage = STAGES[page] ?? {}
    await begin()
    await stage.begin?.()
    const found: string[] = []
    const times = new Map<string, number>()
    for (const line of lines) {
      const time = times.get(line) ?? 0
      times.set(line, time + 1)
      if (time === 0) await stage.before?.[line]?.()
      const { code } = await run(line)
      const wanted = stage.ends?.[line]?.[time] ?? null
      if (code !== (wanted === null ? 0 : ERRORS[wanted].exit)) found.push(`${line}: ${code}`)
    }
    await stage.end?.()
    expect(found).toEqual([])
  })
})
