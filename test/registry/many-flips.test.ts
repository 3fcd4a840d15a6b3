import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { goodBefore } from '../../src/registry/good-before.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { retirable } from '../../src/registry/retirable.ts'
import { retire } from '../../src/registry/retire.ts'
import { type TestDatabase, testDatabase } from '../support/services.ts'
import { applyShop, close, DATASET, move, passed } from './shop.ts'

/** Of a few hours of continuous mode: enough for each way of a plan to show. */
const FLIPS = 10_000
/** What one node of a plan may read for a question about the last few versions. */
const ROWS_MAX = 500

const FILL = `
  set session_replication_role = replica;
  create temporary table n as
    select n, 'v20260518-' || lpad(n::text, greatest(2, length(n::text)), '0') as tag, gen_random_uuid() as id, gen_random_uuid() as flip,
           clock_timestamp() - make_interval(secs => ${FLIPS} - n + 60) as at
      from generate_series(1, ${FLIPS}) as n;
  insert into snapflip.refresh_runs (id, dataset, workflow_id, run_id, requested_by, "full", opened_at, closed_at, status, tag)
    select id, '${DATASET}', 'refresh:${DATASET}', id, 'x', false, at, at, 'FLIPPED', tag from n;
  insert into snapflip.index_versions
      (dataset, tag, ordinal, day, state, state_at, refresh_id, digest, manifest_sha256, generation, watermark, counts, created_at, sealed_at)
    select '${DATASET}', tag, n, '2026-05-18', case when n = ${FLIPS} then 'active' when n > ${FLIPS} - 5 then 'retained' else 'swept' end, at, id,
           encode(sha256(tag::bytea), 'hex'), encode(sha256(tag::bytea), 'hex'), md5(tag), '{}', '{}', at, at
      from n;
  insert into snapflip.builds (generation, store, dataset, refresh_id, attempt, parent, begun_at, outcome, ended_at)
    select md5(tag), 'hot', '${DATASET}', id, 1, lag(tag) over (order by n), at, 'sealed', at from n;
  insert into snapflip.flip_intents
      (id, dataset, kind, from_tag, to_tag, epoch, refresh_id, actor, intended_at, outcome, settled_at, bake_until, bake_outcome, bake_ended_at)
    select flip, '${DATASET}', 'flip', lag(tag) over (order by n), tag, n, id, 'x', at, 'confirmed', at,
           at, case when n < ${FLIPS} then 'cutShort' end, case when n < ${FLIPS} then at end
      from n;
  update snapflip.datasets set epoch_registry = ${FLIPS};
  analyze`

interface Node {
  'Relation Name'?: string
  'Node Type': string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  Plans?: Node[]
}
interface Explained {
  'Query Text': string
  Plan: Node
}

function nodes(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(nodes)]
}

function rowsRead(node: Node): number {
  return node['Actual Loops'] * (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0))
}

describe('a registry that has seen very many flips', () => {
  let database: TestDatabase
  let client: pg.Client
  const explained: Explained[] = []

  beforeAll(async () => {
    database = await testDatabase()
    await applyShop(database.pool)
    const filling = await database.pool.connect()
    await filling.query(FILL)
    filling.release(true)
    client = new pg.Client({ connectionString: database.url })
    client.on('notice', ({ message = '' }) => {
      const [, plan] = /^duration: .* plan:\n(.*)/s.exec(message) ?? []
      if (plan !== undefined) explained.push(JSON.parse(plan))
    })
    await client.connect()
    await client.query(`
      load 'auto_explain'; set client_min_messages = notice;
      set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on; set auto_explain.log_timing = off;
      set auto_explain.log_level = notice; set auto_explain.log_nested_statements = on; set auto_explain.log_format = json`)
  })
  afterAll(async () => {
    await client.end()
  })

  it('reads for a refresh, a flip, a retirement and a rollback no more rows than a new one does', async () => {
    const before = (await knownPointer(client, DATASET))?.active?.tag ?? 'none'
    const { refreshId, tag } = await passed(client, before)
    await move(client, { kind: 'flip', from: before, to: tag, refreshId, bakeMs: 60_000 })
    await close(client, refreshId, 'FLIPPED', tag)
    const pointer = await knownPointer(client, DATASET)
    expect(pointer).toMatchObject({ active: { tag }, bake: { flipId: pointer?.flipId } })
    const forbidden = { retired: [], quarantined: [] }
    expect(await goodBefore(client, { dataset: DATASET, from: tag, pointer: forbidden })).toBe(before)
    const [old = 'none'] = await retirable(client, { dataset: DATASET, keep: 2, olderThanMs: 0 })
    await retire(client, { dataset: DATASET, tag: old, why: 'test' })
    await move(client, { kind: 'rollback', from: tag, to: before })
    const large = explained.flatMap(({ 'Query Text': sql, Plan }) =>
      nodes(Plan)
        .filter((node) => node['Relation Name'] !== undefined && rowsRead(node) > ROWS_MAX)
        .map((node) => `${rowsRead(node)} of ${node['Relation Name']} by ${node['Node Type']}: ${sql}`),
    )
    expect(explained.length).toBeGreaterThan(50)
    expect(large).toEqual([])
  })
})
