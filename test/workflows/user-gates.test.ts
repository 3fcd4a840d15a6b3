import { expect, it, onTestFinished } from 'vitest'
import type { Deps } from '../../activities/deps.ts'
import type { GateResult } from '../../schemas/refresh.ts'
import type { GateFunction } from '../../src/gates/user-function.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { hashedKey } from '../../src/snapshot/hashed-key.ts'
import { startReceiver } from '../observe/receiver.ts'
import { makeWorld } from '../support/world.ts'

it('gates of SQL, function and webhook judge what a refresh changes, and one may take the active version back too', async () => {
  process.env.GATE_SECRET = 'a secret'
  onTestFinished(() => void delete process.env.GATE_SECRET)
  let decision = 'proceed'
  const receiver = await startReceiver({
    answer: (response) => {
      if (decision === 'hang') return
      if (decision === 'redirect') response.writeHead(302, { location: receiver.url })
      response.end(JSON.stringify({ decision }))
    },
  })
  const made = await makeWorld({
    schema: `create table products (id integer primary key, sku text not null, price integer);
      insert into products select n, 'sku-' || n, n * 10 from generate_series(1, 300) n`,
    dataset: {
      indexes: {
        products: { from: 'public.products', key: 'id', value: ['sku', 'price'] },
        byPrice: { from: 'public.products', key: ['price', 'sku'], value: 'id', many: true },
      },
      gates: {
        user: {
          free: {
            kind: 'sql',
            sql: "select index, key from changes where after ->> 'price' = '0' or key like '[\"0\"%'",
          },
          seen: { kind: 'function', function: { sha256: 'ab'.repeat(32) } },
          desk: {
            kind: 'webhook',
            url: receiver.url,
            secretEnv: 'GATE_SECRET',
            allowHosts: ['127.0.0.1'],
            timeoutMs: 300,
          },
        },
      },
    },
  })
  const { dataset } = made
  const seen: string[] = []
  const judge: GateFunction = async ({ changes, parent }) => {
    seen.splice(0)
    for await (const { index, key, before, after } of changes()) seen.push(JSON.stringify([index, key, before, after]))
    return { verdict: 'warn', summary: `${seen.length} upon ${parent}` }
  }
  const functions = new Map([[`${dataset}/seen`, judge]])
  await made.worker((deps: Deps) => ({ ...deps, functions }))
  const user = ({ gates }: { gates: GateResult[] }, name: string) => gates.find(({ gate }) => gate === `user:${name}`)

  const first = await made.refresh()
  expect(first.status).toBe('FLIPPED')
  expect(user(first, 'free')).toMatchObject({ verdict: 'pass', index: null, actual: { found: 0, changes: 600 } })
  expect(user(first, 'seen')).toMatchObject({ verdict: 'warn', summary: '600 upon null' })
  expect(user(first, 'desk')).toMatchObject({ verdict: 'pass', actual: { decision: 'proceed', asked: 1 } })

  // A first version has nothing before it: readers stay, and nothing is built upon it until a person has looked.
  await made.pool.query('update products set price = 2 where id = 7')
  decision = 'rollback'
  const stuck = await made.refresh()
  expect(stuck).toMatchObject({ status: 'REJECTED', active: first.tag })
  expect(stuck.summary).toContain('it could not be taken back')
  expect(stuck.summary).not.toContain('was taken back too')
  expect(await made.pointer()).toMatchObject({ active: { tag: first.tag }, hold: { by: 'snapflip' } })
  const told = await historyEntries(made.pool, { dataset, kind: 'alert.compensation_failed', limit: 9 })
  expect(told).toHaveLength(1)
  await made.resume()
  decision = 'proceed'

  await made.pool.query('update products set price = 0 where id = 7; delete from products where id = 8')
  const free = await made.refresh()
  expect(free).toMatchObject({ status: 'REJECTED', active: first.tag })
  expect(user(free, 'free')).toMatchObject({ verdict: 'reject', actual: { found: 2, changes: 5 } })
  expect(user(free, 'free')?.sampleKeys.toSorted()).toEqual([hashedKey('7'), hashedKey('0\0sku-7')].toSorted())
  expect(seen.toSorted()).toEqual([
    '["byPrice",["0","sku-7"],null,7]',
    '["byPrice",["70","sku-7"],7,null]',
    '["byPrice",["80","sku-8"],8,null]',
    '["products","7",{"sku":"sku-7","price":70},{"sku":"sku-7","price":0}]',
    '["products","8",{"sku":"sku-8","price":80},null]',
  ])

  // Broken is no judgement: the next refresh asks again, though nothing changed.
  await made.pool.query('update products set price = 1 where id = 7')
  const before = await made.pointer()
  for (const [answer, told] of [
    ['maybe', /another answer/],
    ['hang', /none within 300 ms/],
    ['redirect', /a redirect, which is not followed/],
  ] as const) {
    decision = answer
    const broken = await made.refresh()
    expect(broken).toMatchObject({ status: 'HELD', summary: expect.stringMatching(/^user:desk: broken[^;]*$/) })
    expect(broken.summary).toMatch(told)
    expect(await made.pointer()).toEqual(before)
  }
  decision = 'proceed'
  const second = await made.refresh()
  expect(second).toMatchObject({ status: 'FLIPPED' })

  await made.pool.query('update products set price = 3 where id = 7')
  decision = 'rollback'
  const back = await made.refresh()
  expect(back).toMatchObject({ status: 'REJECTED', active: first.tag })
  expect(back.summary).toContain(`${second.tag} was taken back too`)
  expect(await made.pointer()).toMatchObject({
    active: { tag: first.tag },
    quarantined: [second.tag],
    hold: { by: expect.any(String) },
  })
  const entries = await historyEntries(made.pool, { dataset, kind: 'rollback.confirmed', limit: 1 })
  expect(entries).toHaveLength(1)
})
