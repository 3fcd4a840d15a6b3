import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LATENCY_BOUNDS_MS } from '../../schemas/counters.ts'
import { watchesOf, watchText } from '../../src/cli/watches.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import type { CanaryRow } from '../../src/registry/canaries.ts'
import type { FlipRow } from '../../src/registry/flips.ts'
import { openStore } from '../../src/stores/open.ts'

const DATASET = 'shop'
const TAG = 'v20260518-02'
const now = new Date()
const inAnHour = new Date(now.getTime() + 3_600_000)

const flip: FlipRow = {
  ...{ flipId: randomUUID(), dataset: DATASET, kind: 'flip', from: 'v20260518-01', to: TAG, epoch: 2, breakGlass: 0 },
  ...{ refreshId: null, reason: null, actor: 'ana', intendedAt: now, outcome: 'confirmed', settledAt: now, detail: {} },
  ...{ bakeUntil: inAnHour, bakeOutcome: null },
}

test('a canary and a bake are told with what is watched, for how long still, what was read of it and what comes of it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-watches-'))
  const store = await openStore(`file:${folder}`, { dataset: DATASET })
  try {
    const version = { tag: TAG, ordinal: 2, digest: '1'.repeat(64), manifest: '2'.repeat(64) }
    const canaryId = randomUUID()
    const canary: CanaryRow = {
      ...{ canaryId, dataset: DATASET, tag: TAG, refreshId: randomUUID(), epoch: 2, share: 0.05, salt: 's' },
      ...{ intendedAt: now, endsAt: inAnHour, elapsedMs: 0, verdict: null, outcome: null },
    }
    const candidate = { version, share: 0.05, salt: 's', canaryId, since: now.toISOString() }
    const pointer = { ...emptyPointer(DATASET), candidate }
    const told = async (...of: [typeof pointer | null, CanaryRow | null, FlipRow | null]) =>
      (await watchesOf(store, ...of)).map((watched) => `${watched.kind}: ${watchText(watched)}`)

    const latencyMs = LATENCY_BOUNDS_MS.map(() => 0).concat(0)
    const report = { watchId: canaryId, side: 'candidate', tag: TAG, misses: 0, errors: 1, bad: 0 } as const
    const at = { since: now.toISOString(), at: now.toISOString(), latencyMs, recentKeys: {} }
    for (const readerId of ['a', 'b']) await store.counters.put({ ...report, ...at, readerId, reads: 4 })
    // What was read of the active version beside it is not of the candidate.
    await store.counters.put({ ...report, ...at, side: 'active', tag: 'v20260518-01', readerId: 'c', reads: 9 })
    expect(await told(pointer, canary, null)).toEqual([
      `canary: ${TAG} for 5 % of the readers, 60 min left: 10 reads by 2 readers so far; flipped to at its end, judged by how its readers fare`,
    ])
    // The registry knows of another.
    expect(await told(pointer, { ...canary, canaryId: randomUUID() }, null)).toEqual([
      expect.stringContaining('of the readers: 10 reads'),
    ])

    const flipped = { ...emptyPointer(DATASET), active: version, flipId: flip.flipId, candidate: null }
    const baked = async (change: Partial<FlipRow> = {}) =>
      (await watchesOf(store, flipped, null, { ...flip, ...change })).map(watchText)
    const none = `${TAG}, 60 min left: 0 reads by 0 readers so far`
    expect(await baked()).toEqual([`${none}; taken back by itself if its readers fare worse`])
    expect(await baked({ kind: 'rollback' })).toEqual([`${none}; an alert if its readers fare worse`])
    expect(await baked({ bakeUntil: new Date(now.getTime() - 1) })).toEqual([
      expect.stringContaining('its time is over'),
    ])
    for (const over of [
      { bakeOutcome: 'baked' },
      { outcome: null },
      { bakeUntil: null },
      { flipId: randomUUID() },
    ] as const)
      expect(await baked(over)).toEqual([])
  } finally {
    await store.close()
    await rm(folder, { recursive: true })
  }
})
