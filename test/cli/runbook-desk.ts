import { rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { CommanderError } from 'commander'
import { expect, vi } from 'vitest'
import { printError } from '../../src/cli/print-error.ts'
import { commandLine } from '../../src/cli/program.ts'
import { type Answer, ended } from '../../src/cli/verb.ts'
import { ERRORS } from '../../src/core/errors.ts'
import { type LocalRedis, startRedis } from '../../src/local/redis.ts'
import { waitUntil } from '../../src/local/wait-until.ts'
import { wordsOf } from '../house/quoted-commands.ts'
import { startHttpProxy } from '../stores/http-proxy.ts'
import { testBucket, testFolder } from '../support/services.ts'
import { INDEXES, type Project, testProject } from './project.ts'
import type { startSnapflip } from './run.ts'

type Definition = Project['definition']

/** What a command ended with, and what whoever typed it read. */
export interface Told {
  code: number
  text: string
  answer: Answer | null
}

/** Somebody at the prompt, with a worker, a Redis and a bucket that things can happen to. */
export type Desk = Awaited<ReturnType<typeof openDesk>>

export async function openDesk() {
  const folder = await testFolder()
  const start = (port?: number): Promise<LocalRedis> =>
    startRedis({ dataDir: folder.path, settings: { appendfsync: 'always' }, ...(port === undefined ? {} : { port }) })
  let redis = await start()
  const bucket = await testBucket()
  const s3 = await startHttpProxy(bucket.endpoint, (_exchange, forward) => forward())
  const project = await testProject({ store: redis.url })
  const { dataset } = project
  const ofBucket = `${dataset}-in-s3`

  let decision = 'proceed'
  const people = createServer((_request, response) => response.end(JSON.stringify({ decision })))
  await new Promise<void>((resolve) => people.listen(0, '127.0.0.1', resolve))
  process.env.DESK_SECRET = 'a secret'
  const desk = {
    kind: 'webhook' as const,
    url: `http://127.0.0.1:${(people.address() as AddressInfo).port}`,
    secretEnv: 'DESK_SECRET',
    allowHosts: ['127.0.0.1'],
    askAgainMs: 100,
  }
  const declared = (definition: Definition): Definition => ({
    ...definition,
    stores: {
      ...definition.stores,
      bucket: bucket.url.replace(encodeURIComponent(bucket.endpoint), encodeURIComponent(s3.endpoint)),
    },
    datasets: {
      [dataset]: { stores: ['main'], indexes: INDEXES, schedule: { everyMs: 86_400_000 }, gates: { user: { desk } } },
      [ofBucket]: { stores: ['bucket'], indexes: { products: { ...INDEXES.products, from: 'public.elsewhere' } } },
    },
  })

  let worker: ReturnType<typeof startSnapflip> | null = null
  const here = { shop: dataset, older: '', newer: '' }
  const time = new Date()

  const said: string[] = []
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    said.push(String(text))
    return true
  })

  const own = {
    project,
    /** The two versions of the page: where readers were, and where they are. */
    here,
    s3,
    decide(next: 'proceed' | 'wait') {
      decision = next
    },
    /** The definition as every page begins with, changed. */
    define: (change: (definition: Definition) => Definition = (same) => same) =>
      project.define((definition) => change(declared(definition))),
    /** On the machine that the page's worker runs on. */
    async startWorker(): Promise<void> {
      worker ??= project.start(['worker', '--work-dir', `${project.folder}/work`])
      const { seen } = worker
      await waitUntil('the worker to poll', () => (seen.stderr.includes('worker polls') ? true : undefined))
    },
    async stopWorker(): Promise<void> {
      worker?.kill('SIGTERM')
      await worker?.ended
      worker = null
    },
    /** Redis comes back as another server: with what it had, or without. */
    async restartRedis({ empty }: { empty: boolean }): Promise<void> {
      const { port } = redis
      await redis.crash()
      if (empty) await rm(join(folder.path, 'appendonlydir'), { recursive: true })
      redis = await start(port)
    },
    /** In this process: what a process of its own adds is shown elsewhere. */
    async run(line: string): Promise<Told> {
      const words = wordsOf(line)
        .slice(1)
        .map((word) => (word === 'shop' ? here.shop : word))
        .map((word) => (word === 'incident.json' ? `${project.folder}/${word}` : word))
        .map((word) => (word === 'v20260518-01' ? here.older : word === 'v20260518-02' ? here.newer : word))
        .map((word) => (word === '2026-05-18T10:00:00Z' ? time.toISOString() : word))
      if (words[0] === 'worker') {
        await own.startWorker()
        return { code: 0, text: worker?.seen.stderr ?? '', answer: null }
      }
      ended.length = 0
      said.length = 0
      try {
        const config = ['--config', `${project.folder}/snapflip.config.json`]
        await commandLine().parseAsync([...words, ...config], { from: 'user' })
        const answer = ended.at(-1)?.answer ?? null
        const code = answer?.code === undefined ? 0 : ERRORS[answer.code].exit
        return { code, text: `${said.join('')}\n${answer?.text ?? ''}`, answer }
      } catch (error) {
        if (error instanceof CommanderError) throw error
        return { code: printError(error, { json: false, verbose: false }), text: said.join(''), answer: null }
      }
    },
    /** What is to go well for the page to begin. */
    async done(line: string): Promise<Told> {
      const told = await own.run(line)
      expect(told, line).toMatchObject({ code: 0 })
      return told
    },
    tagOf: ({ answer }: Told) => (answer?.json as { tag: string } | undefined)?.tag ?? '',
    sql: (text: string) => project.database.pool.query(text),
    /** Two versions, the newer one active and no hold: where every page begins. */
    async begin(which: 'redis' | 's3' = 'redis'): Promise<void> {
      here.shop = which === 'redis' ? dataset : ofBucket
      await own.run('snapflip resume shop --keep-quarantine --reason "the next page"')
      const made = []
      while (made.length < 2) {
        const table = which === 'redis' ? 'products' : 'elsewhere'
        await own.sql(`update ${table} set price_cents = price_cents + 1 where id <= 10`)
        const told = await own.run('snapflip refresh shop')
        expect(told.answer?.json, told.text).toMatchObject({ status: 'FLIPPED' })
        made.push(own.tagOf(told))
      }
      ;[here.older = '', here.newer = ''] = made
    },
    async close(): Promise<void> {
      await own.stopWorker()
      people.close()
      await s3.stop()
      await redis.stop()
    },
  }
  await own.sql(
    'create table elsewhere (like products including all); insert into elsewhere select * from products where id <= 50',
  )
  await own.define()
  await own.done('snapflip apply --yes')
  await own.startWorker()
  return own
}
