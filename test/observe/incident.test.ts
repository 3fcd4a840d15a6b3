import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import { gatherIncident, windowOfFlip } from '../../src/observe/incident.ts'
import { raiseAlert } from '../../src/registry/raise-alert.ts'
import { recordEvent } from '../../src/registry/record.ts'
import { openStore } from '../../src/stores/open.ts'
import { applyShop, DATASET, flipped, move } from '../registry/shop.ts'
import { faultyStore } from '../stores/faults.ts'
import { testDatabase, testFolder } from '../support/services.ts'

test('an incident holds the times from what detected it to the last reader, with evidence, decisions and alerts', async () => {
  const { pool, drop } = await testDatabase()
  const folder = await testFolder()
  const store = await openStore(`file:${join(folder.path, 'versions')}`, { dataset: DATASET })
  try {
    await applyShop(pool)
    const first = await flipped(pool, null)
    const bad = await flipped(pool, first)
    const { rows } = await pool.query<{ id: string }>('select id from snapflip.flip_intents where to_tag = $1', [bad])
    const flipId = rows[0]?.id as string
    const report = { watchId: flipId, side: 'active', tag: bad, reads: 3, misses: 0, errors: 1, bad: 0 } as const
    const latencyMs = Array.from({ length: LATENCY_BOUNDS_MS.length + 1 }, () => 0)
    const times = ['2026-05-18T09:30:00.000Z', '2026-05-18T09:31:00.000Z', '2026-05-18T09:30:30.000Z']
    for (const [n, at] of times.entries())
      await store.counters.put({ ...report, readerId: `r${n}`, latencyMs, recentKeys: {}, since: times[0] ?? at, at })
    const waiver = { gate: 'drift', reason: 'known' }
    await recordEvent(pool, { dataset: DATASET, actor: 'ana', kind: 'gate.waived', version: bad, detail: waiver })
    const alert = { id: randomUUID(), dataset: DATASET, version: bad, summary: 'does not read back', evidence: {} }
    const sent = { runbook: 'runbooks/bad-version.md', actor: null, sinks: ['pager'], delivered: ['pager'] }
    // Told before it, and of another version or another dataset's: neither detected anything of this one.
    for (const other of [{ version: first }, { dataset: 'other' }])
      await raiseAlert(pool, { ...alert, ...sent, ...other, id: randomUUID(), kind: 'GATE_REFUSED', incident: flipId })
    await raiseAlert(pool, { ...alert, ...sent, kind: 'VERIFY_FAILED', incident: flipId })
    const rollbackId = await move(pool, { kind: 'rollback', from: bad, to: first })
    const third = await flipped(pool, first)

    const window = await windowOfFlip(pool, flipId)
    if (window === null) throw new Error('the flip is not known')
    const found = await gatherIncident(pool, { ...window, dataset: null }, async () => [store])
    expect(found.movements.map(({ kind, from, to }) => [kind, from, to])).toEqual(
      expect.arrayContaining([
        ['flip', first, bad],
        ['rollback', bad, first],
      ]),
    )
    const back = found.movements.find(({ kind }) => kind === 'rollback')
    expect(back).toMatchObject({ actor: 'ana', outcome: 'confirmed', detectedBy: 'alert VERIFY_FAILED' })
    expect(back).toMatchObject({ lastReaderAt: times[1], detectedAt: found.alerts.at(-1)?.raisedAt })
    const moments = [back?.detectedAt, back?.wantedAt, back?.settledAt]
    expect(moments.toSorted()).toEqual(moments)
    expect(found.alerts.at(-1)).toMatchObject({
      kind: 'VERIFY_FAILED',
      version: bad,
      deliveries: { pager: 'delivered' },
    })
    expect(found.versions.find(({ tag }) => tag === bad)).toMatchObject({
      gates: [{ gate: 'integrity', verdict: 'pass' }],
      state: 'quarantined',
      decisions: [{ kind: 'gate.waived', actor: 'ana' }],
    })
    const kinds = found.timeline.map(({ kind }) => kind)
    expect(kinds[0]).toBe('refresh.opened')
    expect(kinds).toEqual(expect.arrayContaining(['alert.verify_failed', 'rollback.confirmed']))
    expect(found.timeline.map(({ seq }) => seq)).toEqual(found.timeline.map(({ seq }) => seq).toSorted((a, b) => a - b))
    // What the version before was built by is another story.
    expect(found.timeline.filter(({ kind, version }) => kind === 'version.sealed' && version === first)).toEqual([])
    // Of what a drill leaves nothing need have been found; nor is it what was found before readers were on it.
    await raiseAlert(pool, { ...alert, ...sent, id: randomUUID(), version: third, kind: 'GATE_REFUSED', incident: 'x' })
    const drill = await move(pool, { kind: 'drill', from: third, to: first })
    const since = new Date(Date.now() - 60_000)
    const drilled = { dataset: DATASET, flipId: null, since, until: new Date(Date.now() + 60_000) }
    const all = await gatherIncident(pool, drilled, async () => [store])
    expect(all.movements.find((each) => each.flipId === drill)).toMatchObject({ kind: 'drill', detectedBy: null })
    await move(pool, { kind: 'drill', from: first, to: third })
    const again = await move(pool, { kind: 'rollback', from: third, to: first })
    // Found of it when readers had left it: that is not why they did.
    await raiseAlert(pool, { ...alert, ...sent, id: randomUUID(), version: third, kind: 'GATE_REFUSED', incident: 'y' })
    const later = await gatherIncident(pool, drilled, async () => [store])
    expect(later.movements.find((each) => each.flipId === again)).toMatchObject({ detectedAt: null, detectedBy: null })

    expect(await windowOfFlip(pool, randomUUID())).toBeNull()

    // By the rollback's own id: from what it takes readers away from, and until they left what it took them to.
    const ofRollback = await windowOfFlip(pool, rollbackId)
    expect(ofRollback).toMatchObject({ flipId: rollbackId, since: window.since })
    const byRollback = await gatherIncident(pool, ofRollback ?? window, async () => [store])
    expect(byRollback.movements.find((one) => one.flipId === rollbackId)).toEqual(back)
    expect(byRollback.refreshes.map(({ tag }) => tag)).toContain(bad)

    // A store that fails is asked once, and said to be missing.
    let asked = 0
    const failing = faultyStore(store, {
      run: async () => {
        asked++
        throw new Error('no answer')
      },
    })
    const without = await gatherIncident(pool, { ...window, since: new Date(0) }, async () => [failing])
    expect(without.movements.length).toBeGreaterThan(2)
    expect(without.movements.every(({ lastReaderAt }) => lastReaderAt === null)).toBe(true)
    expect(without.missing).toEqual([{ part: `what readers of ${DATASET} reported to ${store.url}`, why: 'no answer' }])
    expect(asked).toBe(1)
    // One that the definition file names no more cannot even be opened.
    const unnamed = await gatherIncident(pool, { ...window, since: new Date(0) }, () =>
      Promise.reject(new Error('none')),
    )
    expect(unnamed.missing).toEqual([{ part: `what readers of ${DATASET} reported`, why: 'none' }])

    // Of more than fit, the newest are kept.
    expect(byRollback).toMatchObject({ cut: [], missing: [] })
    await pool.query(
      `insert into snapflip.refresh_runs (id, dataset, workflow_id, run_id, requested_by, "full", opened_at, closed_at, status, summary, durations)
       select gen_random_uuid(), $1, 'w', 'r', 'ana', false, '2020-01-01'::timestamptz + n * interval '1 minute',
              '2020-01-01'::timestamptz + n * interval '1 minute', 'FAILED', n::text, '{}'
         from generate_series(1, 1000) n`,
      [DATASET],
    )
    await pool.query(
      `insert into snapflip.alerts (id, kind, dataset, incident, summary, evidence, runbook, raised_at, last_at)
       select gen_random_uuid(), 'GATE_REFUSED', $1, n::text, n::text, '{}', '', '2020-01-01', '2020-01-01' from generate_series(1, 1000) n`,
      [DATASET],
    )
    const long = await gatherIncident(pool, { ...window, since: new Date(0), until: new Date() }, async () => [store])
    expect(long.cut).toEqual(['refreshes', 'alerts'])
    expect([long.refreshes.length, long.alerts.length]).toEqual([1_000, 1_000])
    expect(long.refreshes.at(-1)?.tag).not.toBeNull()
    expect(long.refreshes[0]?.summary).toBe('4')
    expect(long.alerts.at(-1)).toMatchObject({ kind: 'GATE_REFUSED', version: third })
  } finally {
    await store.close()
    await drop()
  }
})
