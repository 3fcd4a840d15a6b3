import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { rollbackDirect } from '../../src/cli/rollback-direct.ts'
import { Session } from '../../src/cli/session.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'
import { freePort } from '../../src/local/free-port.ts'
import type { Store } from '../../src/stores/ports.ts'
import { faultyStore, type StoreOperation } from '../stores/faults.ts'
import { startTcpProxy } from '../stores/tcp-proxy.ts'
import { testFolder } from '../support/services.ts'
import { makeWorld, type World } from '../support/world.ts'

/** The command line's session, over stores in which an operation fails; it waits for Temporal for a second. */
class Troubled extends Session {
  override readonly temporalAnswerMs = 1_000
  readonly notes: string[] = []
  /** By the name of the store; '' is the first. */
  readonly failing = new Map<string, StoreOperation>()

  override note(line: string): void {
    this.notes.push(line)
  }
  override async store(dataset: string, name?: string): Promise<Store> {
    return this.#troubled(name ?? '', await super.store(dataset, name))
  }
  override async furtherStores(dataset: string) {
    const further = await super.furtherStores(dataset)
    return further.map(({ name, store }) => ({ name, store: this.#troubled(name, store) }))
  }
  #troubled(name: string, store: Store): Store {
    return faultyStore(store, {
      run: async (operation, call) => {
        if (this.failing.get(name) === operation)
          throw new SnapflipError('STORE_UNREACHABLE', `Expected ${name || 'it'} to answer: a fault of the test.`)
        return call()
      },
    })
  }
}

async function session(world: World, database: unknown = world.config.database): Promise<Troubled> {
  const file = join((await testFolder()).path, 'snapflip.config.json')
  await writeFile(file, JSON.stringify({ ...world.config, database }))
  const troubled = new Troubled({ config: file })
  onTestFinished(() => troubled.close())
  return troubled
}

it('a rollback from the command line says what was made, whatever fails or hangs beside it', async () => {
  const world = await makeWorld({
    schema: `create table products (id integer primary key, price integer not null);
      insert into products select n, n * 10 from generate_series(1, 50) n`,
    dataset: { keep: 10, indexes: { products: { from: 'public.products', key: 'id', value: 'price' } } },
    furtherStores: { archive: `file:${(await testFolder()).path}` },
  })
  const { dataset, pool } = world
  const worker = await world.worker()
  const tags: string[] = []
  for (const price of [1, 2, 3, 4, 5]) {
    await pool.query('update products set price = $1 where id <= 20', [price])
    tags.push((await world.refresh()).tag as string)
  }
  worker.shutdown()
  await worker.run
  const request = { dataset, reason: 'prices are off' }
  // Nobody is there to take them up: as the command line asks, and as a person types it.
  const { client, config } = world
  const waiting = Promise.allSettled(
    [{ from: tags[4] }, {}].map((more) =>
      client.workflow.execute('rollback', {
        workflowId: `${WORKFLOW_ID.rollback(dataset)}:${Object.keys(more)}`,
        taskQueue: config.temporal.taskQueue,
        args: [{ ...request, ...more }],
      }),
    ),
  )

  // The pointer is moved, and then the store answers no more.
  const looking = await session(world)
  looking.failing.set('', 'leases.list')
  const unseen = await rollbackDirect(looking, request)
  expect(unseen.code).toBeUndefined()
  expect(unseen.json).toMatchObject({ by: 'registry', from: tags[4], to: tags[3], epoch: '6', isHealthy: null })
  expect(unseen.text).toMatch(new RegExp(`back from ${tags[4]} at ${tags[3]}.*\n.*could not be looked at: `))
  expect(looking.notes.at(-1)).toMatch(new RegExp(`back from ${tags[4]} at ${tags[3]} \\(epoch 6\\); looking`))

  // Again, whether it knows what it is to leave or not: that was left.
  const again = [request, { ...request, from: tags[4] as string, to: tags[1] as string }]
  for (const asked of again) {
    await expect(rollbackDirect(await session(world), asked)).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(
        new RegExp(
          `${tags[4]}, .*found them on ${tags[3]}: postgres took .*at 20.*\\(prices are off\\).*--to ${tags[2]}`,
        ),
      ),
    })
  }
  const to = (tag: string | undefined) => ({
    ...request,
    from: tags[tags.indexOf(tag as string) + 1] as string,
    to: tag as string,
  })

  // PostgreSQL takes connections, and its statements wait: for as long as is allowed here, and for as long as is allowed there.
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from snapflip.datasets where name = $1 for update', [dataset])
  const hanging = await session(world, { connectionString: world.config.database, query_timeout: 1_000 })
  hanging.failing.set('archive', 'pointer.read')
  const late = await rollbackDirect(hanging, to(tags[2]))
  expect(late.json).toMatchObject({
    by: 'breakGlass',
    from: tags[3],
    to: tags[2],
    isHealthy: true,
    behind: [{ store: 'archive', why: expect.stringContaining('Expected archive to answer') }],
  })
  expect(hanging.notes.join('\n')).toMatch(/PostgreSQL does not answer.*break-glass/)
  expect(hanging.notes.join('\n')).toMatch(/archive .*did not take it over.*Expected archive to answer/)
  const options = '-c statement_timeout=500'
  const cut = await rollbackDirect(
    await session(world, { connectionString: world.config.database, options }),
    to(tags[1]),
  )
  expect(cut.json).toMatchObject({ by: 'breakGlass', from: tags[2], to: tags[1], behind: [] })
  await holder.query('rollback')
  holder.release()
  expect((await world.pointer('archive')).active?.tag).toBe(tags[1])

  // Down altogether; a further store that was never published to follows nobody.
  const down = await session(world, `postgres://postgres@127.0.0.1:${await freePort()}/${randomUUID()}`)
  await expect(rollbackDirect(down, to(tags[2]))).rejects.toMatchObject({ code: 'CONFLICT' })
  expect((await rollbackDirect(down, to(tags[0]))).json).toMatchObject({ by: 'breakGlass', to: tags[0], behind: [] })
  // What waited was not made later, and the registry takes the rest over.
  await world.worker()
  expect(await world.refreshFailure()).toMatchObject({ cause: { message: expect.stringMatching(/hold/) } })
  expect((await world.pointer()).breakGlass).toEqual([])
  expect((await world.pointer()).active?.tag).toBe(tags[0])
  for (const late of await waiting) {
    expect(failureCode((late as PromiseRejectedResult).reason)).toBe('CONFLICT')
    expect(failureMessage((late as PromiseRejectedResult).reason)).toMatch(/found them on .* took them there from/)
  }
})

it('a rollback from the command line bakes where that is declared, and says where nobody watches: Temporal hangs, or is down', async () => {
  const world = await makeWorld({
    schema:
      'create table products (id integer primary key, price integer not null); insert into products values (1, 1)',
    dataset: {
      indexes: { products: { from: 'public.products', key: 'id', value: 'price' } },
      bake: { forMs: 600_000, whileBaking: 'end', drift: { sample: 0 } },
    },
  })
  const { client, dataset, pool } = world
  await world.worker()
  const tags: string[] = []
  for (const price of [1, 2, 3, 4]) {
    await pool.query('update products set price = $1', [price])
    tags.push((await world.refresh()).tag as string)
  }
  const request = { dataset, reason: 'prices are off' }
  // Edited, and not applied.
  delete world.config.datasets[dataset]?.bake
  const { json } = await rollbackDirect(await session(world), { ...request, to: tags[2] as string })
  expect(json).toMatchObject({ status: 'ROLLED_BACK', watched: true })
  const { rows } = await pool.query<{ id: string }>("select id from snapflip.flip_intents where kind = 'rollback'")
  const bake = client.workflow.getHandle(WORKFLOW_ID.bake(dataset, rows[0]?.id ?? ''))
  expect((await bake.describe()).status.name).toBe('RUNNING')

  const unwatched = (to: string | undefined) => ({
    json: { status: 'ROLLED_BACK', to, watched: false, isHealthy: true },
    text: expect.stringMatching(/nobody watches it: Expected Temporal to answer at .*, found no answer/),
  })
  const { temporal } = world.config
  const proxy = await startTcpProxy(Number(new URL(`http://${temporal.address}`).port))
  onTestFinished(() => proxy.stop())
  world.config.temporal = { ...temporal, address: `127.0.0.1:${proxy.port}` }
  const hanging = await session(world)
  await hanging.temporal()
  proxy.mode = 'silent'
  expect(await rollbackDirect(hanging, { ...request, to: tags[1] as string })).toMatchObject(unwatched(tags[1]))

  world.config.temporal = { ...temporal, address: `127.0.0.1:${await freePort()}` }
  expect(await rollbackDirect(await session(world), { ...request, to: tags[0] as string })).toMatchObject(
    unwatched(tags[0]),
  )
})
