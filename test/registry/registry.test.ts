import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { activeHold } from '../../src/registry/active-hold.ts'
import { allocateVersion } from '../../src/registry/allocate-version.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { beginGeneration } from '../../src/registry/begin-generation.ts'
import { closeRefresh } from '../../src/registry/close-refresh.ts'
import { currentDefinition, requireApplied } from '../../src/registry/current-definition.ts'
import { flips, openFlips } from '../../src/registry/flips.ts'
import { gateResults } from '../../src/registry/gate-results.ts'
import { historyEntries } from '../../src/registry/history-entries.ts'
import { hold } from '../../src/registry/hold.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { journalledGenerations } from '../../src/registry/journalled-generations.ts'
import { knownPointer } from '../../src/registry/known-pointer.ts'
import { lastGoodRefresh } from '../../src/registry/last-good-refresh.ts'
import { openRefresh } from '../../src/registry/open-refresh.ts'
import { openRefreshOf } from '../../src/registry/open-refresh-of.ts'
import { quarantine, quarantinedByRollbacks } from '../../src/registry/quarantine.ts'
import { raiseEpoch } from '../../src/registry/raise-epoch.ts'
import { recordGates } from '../../src/registry/record-gates.ts'
import { refreshes } from '../../src/registry/refreshes.ts'
import { release } from '../../src/registry/release.ts'
import { resume } from '../../src/registry/resume.ts'
import { retirable } from '../../src/registry/retirable.ts'
import { retire, swept } from '../../src/registry/retire.ts'
import { ruleOutFlip } from '../../src/registry/rule-out-flip.ts'
import { sealVersion } from '../../src/registry/seal-version.ts'
import { setVersionState } from '../../src/registry/set-version-state.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import { status } from '../../src/registry/status.ts'
import { sweptGeneration } from '../../src/registry/swept-generation.ts'
import { version } from '../../src/registry/version.ts'
import { versions } from '../../src/registry/versions.ts'
import { postgresVersions, type TestDatabase, testDatabase } from '../support/services.ts'
import {
  allocate,
  applyShop,
  aRefresh,
  attempt,
  close,
  DATASET,
  DAY,
  definition,
  flipped,
  gate,
  generation,
  judge,
  move,
  open,
  passed,
  seal,
  states,
} from './shop.ts'

describe.each(postgresVersions)('PostgreSQL %s: the registry', (postgres) => {
  let database: TestDatabase
  let pool: TestDatabase['pool']

  beforeEach(async () => {
    database = await testDatabase({ version: postgres })
    pool = database.pool
    await applyShop(pool)
    return database.drop
  })

  describe('definitions', () => {
    it('get a new number only when they changed, whatever the order of their keys', async () => {
      const same = Object.fromEntries(Object.entries(definition()).reverse()) as ReturnType<typeof definition>
      expect(await applyDefinition(pool, { dataset: DATASET, definition: same })).toEqual({
        number: 1,
        changed: false,
      })
      const login = decodeURIComponent(new URL(database.url).username)
      const other = definition('public.offers')
      expect(await applyDefinition(pool, { dataset: DATASET, definition: other })).toEqual({
        number: 2,
        changed: true,
      })
      expect(await currentDefinition(pool, DATASET)).toMatchObject({ number: 2, definition: other, appliedBy: login })
      expect(await currentDefinition(pool, 'nothing')).toBeNull()
    })

    it('that changed since they were applied, or never were, are refused', async () => {
      await requireApplied(pool, { dataset: DATASET, definition: definition() })
      const changed = requireApplied(pool, { dataset: DATASET, definition: definition('public.offers') })
      await expect(changed).rejects.toMatchObject({ code: 'NOT_APPLIED', message: expect.stringContaining('number 1') })
      await expect(requireApplied(pool, { dataset: 'x', definition: definition() })).rejects.toMatchObject({
        code: 'NOT_APPLIED',
      })
      await expect(openRefresh(pool, { ...aRefresh(), dataset: 'x' })).rejects.toMatchObject({ code: 'NOT_APPLIED' })
    })
  })

  describe('refreshes', () => {
    it('that were skipped or cancelled in between leave a row of failures one', async () => {
      const good = await open(pool)
      await close(pool, good, 'NOTHING_NEW')
      for (const status of ['FAILED', 'SKIPPED', 'CANCELLED'] as const) await close(pool, await open(pool), status)
      expect(await lastGoodRefresh(pool, DATASET)).toBe(good)
    })

    it('of 20 that start at once, one is open; the others are told which', async () => {
      const all = await Promise.allSettled(Array.from({ length: 20 }, () => openRefresh(pool, aRefresh())))
      const refused = all.filter((one) => one.status === 'rejected').map((one) => one.reason)
      const opened = await openRefreshOf(pool, DATASET)
      expect(refused).toHaveLength(19)
      for (const error of refused) {
        expect(error).toMatchObject({ code: 'REFRESH_RUNNING', details: { workflowId: opened?.workflowId } })
        expect(error.message).toContain(opened?.openedAt.toISOString())
      }
    })

    it('cannot be two open ones even without the lock of the dataset', async () => {
      await open(pool)
      const second = pool.query(
        `insert into snapflip.refresh_runs (id, dataset, workflow_id, run_id, requested_by, "full")
         values (gen_random_uuid(), $1, 'w', 'r', 'x', false)`,
        [DATASET],
      )
      await expect(second).rejects.toMatchObject({ constraint: 'refreshes_one_open' })
    })

    it('open once for the same id', async () => {
      const refresh = aRefresh()
      await openRefresh(pool, refresh)
      await openRefresh(pool, refresh)
      expect(await refreshes(pool, DATASET)).toMatchObject([
        { refreshId: refresh.refreshId, closedAt: null, status: null },
      ])
    })

    it('take over from a run of the same workflow that ended without closing, which can change nothing any more', async () => {
      const first = aRefresh(randomUUID(), 'refresh:shop')
      await openRefresh(pool, first)
      const { tag } = await allocate(pool, first.refreshId)
      const second = aRefresh(randomUUID(), 'refresh:shop')
      await openRefresh(pool, second)
      expect(await openRefreshOf(pool, DATASET)).toMatchObject({ refreshId: second.refreshId })
      expect(await states(pool)).toEqual({ [tag]: 'retired' })
      const late = { code: 'SUPERSEDED', details: { status: 'FAILED' } }
      await expect(sealVersion(pool, seal(tag))).rejects.toMatchObject(late)
      const again = allocate(pool, first.refreshId)
      await expect(again).rejects.toMatchObject(late)
      await expect(openRefresh(pool, first)).rejects.toMatchObject(late)
      await expect(judge(pool, first.refreshId, tag, [gate('pass')])).rejects.toMatchObject(late)
      const attempt = {
        dataset: DATASET,
        refreshId: first.refreshId,
        index: 'products',
        attempt: 1,
        generation: generation(),
        store: 'hot',
        parent: null,
      }
      await expect(beginGeneration(pool, attempt)).rejects.toMatchObject(late)
    })

    it('close once, and keep how they ended', async () => {
      const refreshId = await open(pool)
      const end = {
        refreshId,
        status: 'NOTHING_NEW',
        tag: null,
        summary: 'nothing new',
        durationsMs: { plan: 7 },
      } as const
      expect(await closeRefresh(pool, end)).toEqual({ closed: true })
      expect(await closeRefresh(pool, { ...end, status: 'FAILED' })).toEqual({ closed: false })
      expect(await closeRefresh(pool, { ...end, refreshId: randomUUID() })).toEqual({ closed: false })
      expect(await refreshes(pool, DATASET)).toMatchObject([{ status: 'NOTHING_NEW', durationsMs: { plan: 7 } }])
      expect(await openRefreshOf(pool, DATASET)).toBeNull()
      await open(pool)
    })

    it('do not open on hold; the message names who, why and the way out', async () => {
      await hold(pool, { dataset: DATASET, by: 'ana', reason: 'prices look wrong' })
      const refused = openRefresh(pool, aRefresh())
      await expect(refused).rejects.toMatchObject({
        code: 'ON_HOLD',
        message: expect.stringMatching(/ana .*prices look wrong.*snapflip resume shop/),
      })
      expect(await resume(pool, { dataset: DATASET, by: 'bo', reason: 'fixed' })).toMatchObject({
        lifted: true,
        hold: { by: 'ana' },
      })
      expect(await resume(pool, { dataset: DATASET, by: 'bo', reason: 'fixed' })).toEqual({ lifted: false, hold: null })
      await open(pool)
    })

    it('are held by a workflow once, however often it asks, and not in place of a person', async () => {
      const own = { dataset: DATASET, by: 'snapflip', reason: 'bad', at: new Date().toISOString(), yields: true }
      const by = async () => (await activeHold(pool, DATASET))?.by ?? null
      await hold(pool, own)
      await hold(pool, own)
      expect(await by()).toBe('snapflip')
      await resume(pool, { dataset: DATASET, by: 'bo', reason: 'looked' })
      await hold(pool, own)
      expect(await by()).toBeNull()
      const { hold: of } = await hold(pool, { dataset: DATASET, by: 'ana', reason: 'a look' })
      expect(await hold(pool, { ...own, at: new Date(Date.now() + 1).toISOString() })).toEqual({
        hold: of,
        replaced: null,
      })
      expect(await by()).toBe('ana')
      await resume(pool, { dataset: DATASET, by: 'ana', reason: 'looked' })
    })
  })

  describe('versions', () => {
    it('are numbered within the UTC day, by the registry in all, past 99, once a refresh', async () => {
      const tags: string[] = []
      const allocate = async (day: Date) => {
        const refreshId = await open(pool)
        const made = await allocateVersion(pool, { dataset: DATASET, refreshId, day })
        expect(await allocateVersion(pool, { dataset: DATASET, refreshId, day: new Date() })).toEqual(made)
        expect(made.ordinal).toBe(tags.push(made.tag))
        await close(pool, refreshId)
      }
      for (let number = 1; number <= 100; number++) await allocate(DAY)
      await allocate(new Date('2026-05-19T00:00:00Z'))
      await allocate(DAY)
      expect([tags[0], tags[1], tags[98], tags[99], tags[100], tags[101]]).toEqual([
        'v20260518-01',
        'v20260518-02',
        'v20260518-99',
        'v20260518-100',
        'v20260519-01',
        'v20260518-101',
      ])
      expect((await versions(pool, DATASET))[0]?.tag).toBe('v20260518-101')
    })

    it('are sealed once: the same seal again is nothing, another one a conflict', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      const mine = seal(tag)
      await sealVersion(pool, mine)
      await sealVersion(pool, mine)
      await expect(sealVersion(pool, seal(tag))).rejects.toMatchObject({
        code: 'CONFLICT',
        details: { manifest: mine.manifestSha256 },
      })
      expect(await version(pool, DATASET, tag)).toMatchObject({
        state: 'sealed',
        digest: mine.digest,
        manifestSha256: mine.manifestSha256,
        watermark: mine.watermark,
        generation: mine.generation,
      })
    })

    it('sealed by an attempt that died before it wrote the manifest are sealed anew; what only that attempt wrote is abandoned', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      const [dead, kept] = [seal(tag), seal(tag)]
      for (const [index, { generation }] of [dead, kept].entries()) {
        await beginGeneration(pool, attempt(refreshId, { attempt: index + 1, generation }))
        if (index === 0) await sealVersion(pool, dead)
      }
      const otherwise = sealVersion(pool, { ...kept, replaces: kept.digest })
      await expect(otherwise).rejects.toMatchObject({ code: 'CONFLICT' })
      await sealVersion(pool, { ...kept, replaces: dead.manifestSha256 })
      expect(await version(pool, DATASET, tag)).toMatchObject({ state: 'sealed', manifestSha256: kept.manifestSha256 })
      await close(pool, refreshId, 'FAILED', tag)
      expect(await journal(dead.generation, kept.generation)).toEqual({
        [dead.generation]: 'abandoned',
        [kept.generation]: 'ended',
      })
    })

    it('are not sealed anew once they were judged: what the gates read is what is flipped to', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      const mine = seal(tag)
      await sealVersion(pool, mine)
      await judge(pool, refreshId, tag, [gate('pass')])
      const late = sealVersion(pool, seal(tag, { replaces: mine.manifestSha256 }))
      await expect(late).rejects.toMatchObject({ code: 'CONFLICT' })
      expect(await version(pool, DATASET, tag)).toMatchObject({ manifestSha256: mine.manifestSha256 })
    })

    it('sealed anew while the gates read them are not judged by what those read', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      const [dead, kept] = [seal(tag), seal(tag)]
      await sealVersion(pool, dead)
      await sealVersion(pool, { ...kept, replaces: dead.manifestSha256 })
      const judged = { refreshId, tag, manifestSha256: dead.manifestSha256 }
      await expect(recordGates(pool, judged, [gate('pass')])).rejects.toMatchObject({ code: 'SUPERSEDED' })
      expect(await gateResults(pool, DATASET, tag)).toEqual([])
    })

    it.each([
      ['rejected', 'reject'],
      ['held', 'hold'],
    ] as const)(
      'are %s together with the verdict, and no later run of the gates takes it back',
      async (state, verdict) => {
        const refreshId = await open(pool)
        const { tag } = await allocate(pool, refreshId)
        await sealVersion(pool, seal(tag))
        await judge(pool, refreshId, tag, [gate(verdict, 'drift')])
        expect((await version(pool, DATASET, tag)).state).toBe(state)
        expect(await judge(pool, refreshId, tag, [gate('pass', 'drift')])).toMatchObject([{ verdict }])
        expect(await gateResults(pool, DATASET, tag)).toMatchObject([{ verdict }])
        expect((await version(pool, DATASET, tag)).state).toBe(state)
      },
    )

    it('are not sealed on a retired parent', async () => {
      const first = await flipped(pool, null)
      const second = await flipped(pool, first)
      await flipped(pool, second)
      await retire(pool, { dataset: DATASET, tag: first, why: 'old' })
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      await expect(sealVersion(pool, seal(tag, { parent: first }))).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
    })

    it('go only where the table of states lets them', async () => {
      const { tag } = await passed(pool)
      const to = (state: Parameters<typeof setVersionState>[1]['to']) =>
        setVersionState(pool, { dataset: DATASET, tag, to: state, why: 'test' })
      await to('rejected')
      await to('rejected')
      await expect(to('held')).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining('may become sealed, retired'),
      })
      await to('retired')
      await swept(pool, { dataset: DATASET, tag })
      await expect(to('sealed')).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(version(pool, DATASET, 'v20200101-01')).rejects.toMatchObject({ code: 'UNKNOWN_VERSION' })
    })

    it('cannot be two active ones, whoever writes', async () => {
      const v1 = await flipped(pool, null)
      await flipped(pool, v1)
      const second = pool.query(`update snapflip.index_versions set state = 'active' where tag = $1`, [v1])
      await expect(second).rejects.toMatchObject({ constraint: 'versions_one_active' })
    })

    it('are never sealed by name alone', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      await expect(setVersionState(pool, { dataset: DATASET, tag, to: 'sealed', why: '' })).rejects.toMatchObject({
        code: 'CONFLICT',
      })
    })

    it('keep what the gates found last, in the order they ran', async () => {
      const { refreshId, tag } = await passed(pool)
      const results = [
        gate('warn', 'rowCounts'),
        { ...gate('pass', 'drift'), index: 'products' },
        gate('hold', 'changeVolume'),
      ]
      await judge(pool, refreshId, tag, results)
      expect(await gateResults(pool, DATASET, tag)).toMatchObject(results)
    })
  })

  /** What the registry's journal says of these generations in `hot`, and of all that are to be swept there. */
  const journal = async (...generations: string[]) =>
    Object.fromEntries(await journalledGenerations(pool, { dataset: DATASET, store: 'hot', generations }))

  describe('generations', () => {
    it('that no sealed version uses are found once the build is over, until they are swept', async () => {
      const refreshId = await open(pool)
      const { tag } = await allocate(pool, refreshId)
      const [dead, adopted, last] = [generation(), generation(), generation()]
      for (const [index, name] of [dead, adopted, last].entries()) {
        const build = attempt(refreshId, { attempt: index + 1, generation: name })
        await beginGeneration(pool, build)
        await beginGeneration(pool, build)
      }
      await sealVersion(pool, seal(tag, { generation: last, adopted: [adopted] }))
      expect(await journal(dead, last)).toEqual({ [dead]: 'open', [last]: 'open' })
      await close(pool, refreshId, 'FLIPPED', tag)
      expect(await journal()).toEqual({ [dead]: 'abandoned' })
      expect(await journal(dead, adopted, last)).toEqual({ [dead]: 'abandoned', [adopted]: 'ended', [last]: 'ended' })
      await sweptGeneration(pool, { dataset: DATASET, generation: dead, store: 'hot' })
      expect(await journal()).toEqual({})
    })

    it('of a refresh that closed without sealing are abandoned', async () => {
      const refreshId = await open(pool)
      const mine = generation()
      await beginGeneration(pool, attempt(refreshId, { generation: mine }))
      await close(pool, refreshId, 'CANCELLED')
      expect(await journal()).toEqual({ [mine]: 'abandoned' })
    })
  })

  describe('epochs', () => {
    it('are never issued twice, of 40 asked for at once, every third rolled back', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      const rollback = () => ({
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'rollback' as const,
        from: v2,
        to: v1,
        reason: null,
        actor: null,
      })
      const issued = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          const client = await pool.connect()
          try {
            await client.query('begin')
            const { epoch } = await intendFlip(client, rollback())
            const gone = index % 3 === 0
            await client.query(gone ? 'rollback' : 'commit')
            return gone ? [] : [epoch.registry]
          } finally {
            client.release()
          }
        }),
      )
      const epochs = issued.flat().sort((a, b) => a - b)
      expect(new Set(epochs).size).toBe(epochs.length)
      expect(epochs[0]).toBeGreaterThan(2)
    })

    it('go on from the highest of registry and stores, and only rise', async () => {
      const v1 = await flipped(pool, null)
      const { tag, refreshId } = await passed(pool, v1)
      expect(await raiseEpoch(pool, DATASET, 41)).toBe(41)
      expect(await raiseEpoch(pool, DATASET, 7)).toBe(41)
      const intent = {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip' as const,
        from: v1,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      }
      expect(await intendFlip(pool, intent)).toMatchObject({ epoch: { registry: 42, breakGlass: 0 }, outcome: null })
      await expect(pool.query('update snapflip.datasets set epoch_registry = 1')).rejects.toThrow(/only rises/)
    })

    it('survive a crash even where the server commits asynchronously by default', async () => {
      const client = await pool.connect()
      try {
        await client.query('set synchronous_commit = off')
        const seen: string[] = []
        const query = client.query.bind(client)
        client.query = (async (...args: Parameters<typeof query>) => {
          const result = await query(...args)
          const setting = await query("select current_setting('synchronous_commit') as setting")
          seen.push(setting.rows[0].setting)
          return result
        }) as unknown as typeof client.query
        await raiseEpoch(client, DATASET, 9)
        client.query = query
        expect(seen.at(-2)).toBe('on') // before commit
        expect(seen.at(-1)).toBe('off') // after it, the session's own
      } finally {
        client.release(true)
      }
    })
  })

  describe('flips', () => {
    it('are intended once for an id: the same epoch again, another flip under it a conflict', async () => {
      const v1 = await flipped(pool, null)
      const { tag, refreshId } = await passed(pool, v1)
      const intent = {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip' as const,
        from: v1,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      }
      const all = await Promise.all(Array.from({ length: 8 }, () => intendFlip(pool, intent)))
      expect(new Set(all.map(({ epoch }) => epoch.registry)).size).toBe(1)
      expect(await openFlips(pool, DATASET)).toMatchObject([{ flipId: intent.flipId, outcome: null }])
      await expect(intendFlip(pool, { ...intent, from: null })).rejects.toMatchObject({ code: 'CONFLICT' })
      await settleFlip(pool, { flipId: intent.flipId, outcome: 'refused', detail: {} })
      expect(await intendFlip(pool, intent)).toMatchObject({ outcome: 'refused' })
    })

    it('asked for and not made are refused once their refresh is closed', async () => {
      const { refreshId, tag } = await passed(pool)
      const intent = {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip' as const,
        from: null,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      }
      await intendFlip(pool, intent)
      await close(pool, refreshId, 'FAILED', tag)
      await expect(intendFlip(pool, intent)).rejects.toMatchObject({ code: 'SUPERSEDED' })
      await settleFlip(pool, { flipId: intent.flipId, outcome: 'confirmed', detail: {} })
      expect(await intendFlip(pool, intent)).toMatchObject({ outcome: 'confirmed' })
    })

    it('that were ruled out before they were intended are never intended', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      const flipId = randomUUID()
      const intent = {
        flipId,
        dataset: DATASET,
        kind: 'rollback' as const,
        from: v2,
        to: v1,
        reason: null,
        actor: null,
      }
      for (const _again of [1, 2]) expect(await ruleOutFlip(pool, { dataset: DATASET, flipId })).toBeNull()
      await expect(intendFlip(pool, intent)).rejects.toMatchObject({ code: 'SUPERSEDED', details: { flipId } })
      expect(await openFlips(pool, DATASET)).toEqual([])
      await intendFlip(pool, { ...intent, flipId: randomUUID() })
      expect(await ruleOutFlip(pool, { dataset: 'x', flipId })).toBeNull()
    })

    it('that were intended are not ruled out, also of those asked for at the same time', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      for (let round = 0; round < 10; round++) {
        const flipId = randomUUID()
        const intent = {
          flipId,
          dataset: DATASET,
          kind: 'rollback' as const,
          from: v2,
          to: v1,
          reason: null,
          actor: null,
        }
        const [intended, known] = await Promise.allSettled([
          intendFlip(pool, intent),
          ruleOutFlip(pool, { dataset: DATASET, flipId }),
        ])
        expect(known).toMatchObject({
          value: intended.status === 'fulfilled' ? { flipId, outcome: null } : null,
        })
      }
    })

    it('are refused to another manifest than the version is sealed with', async () => {
      const { refreshId, tag } = await passed(pool)
      const flip = intendFlip(pool, {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip',
        from: null,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
        manifestSha256: generation() + generation(),
      })
      await expect(flip).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    })

    it('move the versions when confirmed, once', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      expect(await states(pool)).toEqual({ [v1]: 'retained', [v2]: 'active' })
      const [last] = await flips(pool, DATASET, 1)
      await settleFlip(pool, { flipId: last?.flipId ?? '', outcome: 'confirmed', detail: {} })
      const otherwise = settleFlip(pool, { flipId: last?.flipId ?? '', outcome: 'failed', detail: {} })
      await expect(otherwise).rejects.toMatchObject({ code: 'CONFLICT' })
      await expect(settleFlip(pool, { flipId: randomUUID(), outcome: 'failed', detail: {} })).rejects.toMatchObject({
        code: 'CONFLICT',
      })
      expect(await openFlips(pool, DATASET)).toEqual([])
    })

    it.each([
      ['no gate results', []],
      ['a gate that rejects', [gate('pass'), gate('reject', 'drift')]],
      ['a gate that wants a person', [gate('hold')]],
    ])('are refused to a version with %s', async (_, results) => {
      const { refreshId, tag } = await passed(pool)
      await judge(pool, refreshId, tag, results)
      const flip = intendFlip(pool, {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip',
        from: null,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      })
      await expect(flip).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
      expect(await openFlips(pool, DATASET)).toEqual([])
    })

    it('are refused to a sealed version that a gate spoke against, whoever wrote that', async () => {
      const { refreshId, tag } = await passed(pool)
      await pool.query(`update snapflip.gate_verdicts set verdict = 'reject' where dataset = $1 and tag = $2`, [
        DATASET,
        tag,
      ])
      const flip = intendFlip(pool, {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'flip',
        from: null,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      })
      await expect(flip).rejects.toMatchObject({ code: 'PREFLIP_REFUSED' })
    })

    it('are refused on hold, to quarantined and retired versions, and for a closed refresh', async () => {
      const v1 = await flipped(pool, null)
      const { tag, refreshId } = await passed(pool, v1)
      const flip = () =>
        intendFlip(pool, {
          flipId: randomUUID(),
          dataset: DATASET,
          kind: 'flip',
          from: v1,
          to: tag,
          reason: null,
          actor: null,
          refreshId,
        })
      await hold(pool, { dataset: DATASET, by: 'ana', reason: 'wait' })
      await expect(flip()).rejects.toMatchObject({ code: 'ON_HOLD' })
      await resume(pool, { dataset: DATASET, by: 'ana', reason: 'go' })
      await quarantine(pool, { dataset: DATASET, tag, by: 'ana', reason: 'bad prices' })
      await expect(flip()).rejects.toMatchObject({
        code: 'VERSION_QUARANTINED',
        message: expect.stringContaining('bad prices'),
      })
      expect(await release(pool, { dataset: DATASET, tag, by: 'ana', reason: 'good' })).toEqual({ released: true })
      expect(await release(pool, { dataset: DATASET, tag, by: 'ana', reason: 'good' })).toEqual({ released: false })
      expect(await states(pool)).toMatchObject({ [tag]: 'sealed' })
      await close(pool, refreshId, 'FAILED', tag)
      await expect(flip()).rejects.toMatchObject({ code: 'SUPERSEDED' })
      await setVersionState(pool, { dataset: DATASET, tag, to: 'retired', why: 'discarded' })
      const rollback = intendFlip(pool, {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'rollback',
        from: v1,
        to: tag,
        reason: null,
        actor: null,
      })
      await expect(rollback).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
    })

    it('back quarantine the version they leave, hold the dataset with it, and work on hold', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      await hold(pool, { dataset: DATASET, by: 'bo', reason: 'earlier' })
      const flipId = randomUUID()
      await intendFlip(pool, {
        flipId,
        dataset: DATASET,
        kind: 'rollback',
        from: v2,
        to: v1,
        reason: 'bad',
        actor: 'ana',
      })
      const mine = { by: 'ana', reason: 'bad', at: new Date().toISOString() }
      await settleFlip(pool, { flipId, outcome: 'confirmed', detail: {}, hold: mine })
      expect(await states(pool)).toEqual({ [v1]: 'active', [v2]: 'quarantined' })
      expect(await activeHold(pool, DATASET)).toEqual(mine)
      // Whatever hold came after, by whichever clock: a person has not been asked yet.
      await hold(pool, { dataset: DATASET, by: 'bo', reason: 'a look', at: '2999-01-01T00:00:00.000Z' })
      expect(await quarantinedByRollbacks(pool, DATASET)).toEqual([v2])
      await resume(pool, { dataset: DATASET, by: 'bo', reason: 'looked', kept: [v2] })
      await hold(pool, { dataset: DATASET, by: 'bo', reason: 'again', at: '2000-01-01T00:00:00.000Z' })
      expect(await quarantinedByRollbacks(pool, DATASET)).toEqual([])
      await release(pool, { dataset: DATASET, tag: v2, by: 'ana', reason: 'was fine' })
      expect(await states(pool)).toEqual({ [v1]: 'active', [v2]: 'retained' })
    })

    it('back go to versions that were active, not to others and not to where readers are', async () => {
      const v1 = await flipped(pool, null)
      const { tag } = await passed(pool, v1)
      for (const to of [tag, v1]) {
        const rollback = intendFlip(pool, {
          flipId: randomUUID(),
          dataset: DATASET,
          kind: 'rollback',
          from: v1,
          to,
          reason: null,
          actor: null,
        })
        await expect(rollback).rejects.toMatchObject({ code: 'CONFLICT' })
      }
    })

    it('settled late, after a rollback from them, do not bring their version back', async () => {
      const v1 = await flipped(pool, null)
      const { tag: v2, refreshId } = await passed(pool, v1)
      const lost = randomUUID()
      await intendFlip(pool, {
        flipId: lost,
        dataset: DATASET,
        kind: 'flip',
        from: v1,
        to: v2,
        reason: null,
        actor: null,
        refreshId,
      })
      await move(pool, { kind: 'rollback', from: v2, to: v1 })
      await settleFlip(pool, { flipId: lost, outcome: 'confirmed', detail: {} })
      expect(await states(pool)).toEqual({ [v1]: 'active', [v2]: 'quarantined' })
    })

    it('without an outcome keep their version from being cleaned up or quarantined', async () => {
      const v1 = await flipped(pool, null)
      const { tag, refreshId } = await passed(pool, v1)
      const flipId = randomUUID()
      await intendFlip(pool, {
        flipId,
        dataset: DATASET,
        kind: 'flip',
        from: v1,
        to: tag,
        reason: null,
        actor: null,
        refreshId,
      })
      const unsettled = { code: 'CONFLICT', details: { flipId } }
      await expect(setVersionState(pool, { dataset: DATASET, tag, to: 'retired', why: '' })).rejects.toMatchObject(
        unsettled,
      )
      await expect(quarantine(pool, { dataset: DATASET, tag, by: 'ana', reason: '' })).rejects.toMatchObject(unsettled)
      await expect(retire(pool, { dataset: DATASET, tag, why: '' })).rejects.toMatchObject(unsettled)
      await settleFlip(pool, { flipId, outcome: 'failed', detail: {} })
      await setVersionState(pool, { dataset: DATASET, tag, to: 'retired', why: '' })
    })
  })

  it('a version that is quarantined already changes nothing, and whatever changes has its entry', async () => {
    const v1 = await flipped(pool, null)
    await flipped(pool, v1)
    const again = async () => {
      await quarantine(pool, { dataset: DATASET, tag: v1, by: 'ana', reason: 'bad' })
      const { rows } = await pool.query('select state, state_at from snapflip.index_versions where tag = $1', [v1])
      const entries = await historyEntries(pool, { dataset: DATASET, kind: 'quarantine' })
      return { version: rows[0], froms: entries.map(({ detail }) => detail.from) }
    }
    const first = await again()
    expect(first).toMatchObject({ version: { state: 'quarantined' }, froms: ['retained'] })
    expect(await again()).toEqual(first)
    // As a store that a dataset moves to leaves it: its word for the state, beside what had been forbidden.
    await pool.query(`update snapflip.index_versions set state = 'retained' where tag = $1`, [v1])
    expect(await again()).toMatchObject({ version: { state: 'quarantined' }, froms: ['retained', 'retained'] })
  })

  it('the active version is left by a rollback, not by a quarantine', async () => {
    const v1 = await flipped(pool, null)
    const refused = quarantine(pool, { dataset: DATASET, tag: v1, by: 'ana', reason: 'bad' })
    await expect(refused).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('snapflip rollback'),
    })
  })

  describe('retiring', () => {
    const all = { dataset: DATASET, keep: 2, olderThanMs: 0 }

    it('takes what is beyond the last N good versions, and counts rejected ones apart', async () => {
      let last: string | null = null
      const good: string[] = []
      for (let number = 0; number < 5; number++) {
        last = await flipped(pool, last)
        good.push(last)
      }
      const bad: string[] = []
      for (let number = 0; number < 3; number++) {
        const { refreshId, tag } = await passed(pool, last)
        await setVersionState(pool, { dataset: DATASET, tag, to: 'rejected', why: 'test' })
        await close(pool, refreshId, 'REJECTED', tag)
        bad.push(tag)
      }
      expect(await retirable(pool, all)).toEqual([...good.slice(0, 3), bad[0]])
      expect(await retirable(pool, { ...all, olderThanMs: 3_600_000 })).toEqual([])
    })

    it('spares the rollback target, the parent of an open build and the version being judged', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      const v3 = await flipped(pool, v2)
      const { tag } = await passed(pool, v1)
      expect(await retirable(pool, { ...all, keep: 0 })).toEqual([])
      for (const needed of [v1, v2, v3, tag]) {
        await expect(retire(pool, { dataset: DATASET, tag: needed, why: 'old' })).rejects.toMatchObject({
          code: 'CONFLICT',
        })
      }
    })

    it('spares the version that was watched to its end at last, and that a rollback would take', async () => {
      const good: string[] = []
      for (let number = 0; number < 5; number++) good.push(await flipped(pool, good.at(-1) ?? null))
      const [v1, v2, v3, v4, v5] = good as [string, string, string, string, string]
      const refused = randomUUID()
      const again = { flipId: refused, dataset: DATASET, kind: 'rollback', from: v5, to: v2, reason: 'x', actor: 'ana' }
      await intendFlip(pool, again as Parameters<typeof intendFlip>[1])
      await settleFlip(pool, { flipId: refused, outcome: 'refused', detail: {} })
      await pool.query(
        `update snapflip.flip_intents set bake_until = now(), bake_outcome = 'cutShort', bake_ended_at = now()
          where to_tag = any ($1) or id = $2`,
        [[v3, v4], refused],
      )
      const { previous } = (await knownPointer(pool, DATASET)) as { previous: { tag: string } }
      expect(previous.tag).toBe(v2)
      expect(await retirable(pool, { ...all, keep: 0 })).toEqual([v1, v3])
    })

    it('is once, and before sweeping', async () => {
      const v1 = await flipped(pool, null)
      const v2 = await flipped(pool, v1)
      await flipped(pool, v2)
      await expect(swept(pool, { dataset: DATASET, tag: v1 })).rejects.toMatchObject({ code: 'CONFLICT' })
      await retire(pool, { dataset: DATASET, tag: v1, why: 'old' })
      await retire(pool, { dataset: DATASET, tag: v1, why: 'old' })
      await swept(pool, { dataset: DATASET, tag: v1 })
      expect(await states(pool)).toMatchObject({ [v1]: 'swept' })
      const late = intendFlip(pool, {
        flipId: randomUUID(),
        dataset: DATASET,
        kind: 'rollback',
        from: v2,
        to: v1,
        reason: null,
        actor: null,
      })
      await expect(late).rejects.toMatchObject({ code: 'VERSION_RETIRED' })
    })
  })

  it('says where each dataset stands', async () => {
    const v1 = await flipped(pool, null)
    const refreshId = await open(pool)
    await hold(pool, { dataset: DATASET, by: 'ana', reason: 'wait' })
    expect(await status(pool, [DATASET, 'other'])).toMatchObject([
      {
        dataset: DATASET,
        applied: true,
        active: { tag: v1 },
        epochRegistry: 1,
        hold: { by: 'ana' },
        openRefresh: { refreshId },
        lastRefresh: { status: 'FLIPPED' },
        lastFlip: { to: v1, outcome: 'confirmed' },
        openFlips: [],
        versions: { active: 1 },
      },
      { dataset: 'other', applied: false, active: null, epochRegistry: 0, openRefresh: null, versions: {} },
    ])
  })
})
