import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { type DatasetDefinition, datasetSchema } from '../../schemas/config.ts'
import type { GateResult, RefreshStatus, Verdict } from '../../schemas/refresh.ts'
import { allocateVersion } from '../../src/registry/allocate-version.ts'
import { applyDefinition } from '../../src/registry/apply-definition.ts'
import { beginGeneration } from '../../src/registry/begin-generation.ts'
import { closeRefresh } from '../../src/registry/close-refresh.ts'
import { intendFlip } from '../../src/registry/intend-flip.ts'
import { openRefresh, type RefreshToOpen } from '../../src/registry/open-refresh.ts'
import { recordGates } from '../../src/registry/record-gates.ts'
import { type Seal, sealVersion } from '../../src/registry/seal-version.ts'
import { settleFlip } from '../../src/registry/settle-flip.ts'
import type { Db } from '../../src/registry/transaction.ts'
import { version } from '../../src/registry/version.ts'

/** A dataset in the registry, and short ways through the steps of its refreshes. */
export const DATASET = 'shop'
export const DAY = new Date('2026-05-18T23:59:59Z')

export function definition(from = 'public.products'): DatasetDefinition {
  return datasetSchema.parse({ stores: ['hot'], indexes: { products: { from, key: 'id', value: ['sku'] } } })
}

export async function applyShop(db: Db): Promise<void> {
  await applyDefinition(db, { dataset: DATASET, definition: definition() })
}

export function aRefresh(refreshId: string = randomUUID(), workflowId = `refresh:${refreshId}`): RefreshToOpen {
  return {
    refreshId,
    dataset: DATASET,
    workflowId,
    runId: randomUUID(),
    reason: 'test',
    requestedBy: 'temporal:test',
    requestedVia: 'temporal',
    full: false,
    policy: { number: 1, digest: '0'.repeat(64) },
    snapflip: '0.0.0',
  }
}

export async function open(db: Db): Promise<string> {
  const refresh = aRefresh()
  await openRefresh(db, refresh)
  return refresh.refreshId
}

export function allocate(db: Db, refreshId: string): Promise<{ tag: string; ordinal: number }> {
  return allocateVersion(db, { dataset: DATASET, refreshId, day: DAY })
}

/** A first attempt at building, of a version without a parent. */
export function attempt(refreshId: string, fields: Partial<Parameters<typeof beginGeneration>[1]> = {}) {
  return {
    dataset: DATASET,
    refreshId,
    index: 'products',
    attempt: 1,
    generation: generation(),
    store: 'hot',
    parent: null,
    ...fields,
  }
}

/** Closes a refresh that came to nothing, or ended in some other way. */
export function close(db: Db, refreshId: string, status: RefreshStatus = 'FAILED', tag: string | null = null) {
  return closeRefresh(db, { refreshId, status, tag, summary: '', durationsMs: {} })
}

export function generation(): string {
  return randomUUID().replaceAll('-', '')
}

export function seal(tag: string, fields: Partial<Seal> = {}): Seal {
  return {
    dataset: DATASET,
    tag,
    digest: generation() + generation(),
    manifestSha256: generation() + generation(),
    watermark: { id: randomUUID(), snapshot: '10:20:11,12', nonce: generation(), system: '1/1', at: DAY.toISOString() },
    parent: null,
    counts: {},
    generation: generation(),
    ...fields,
  }
}

export function gate(verdict: Verdict, name: GateResult['gate'] = 'integrity'): GateResult {
  return {
    gate: name,
    index: null,
    verdict,
    summary: `${name}: ${verdict}`,
    actual: { n: 1 },
    limit: {},
    sampleKeys: ['k'],
  }
}

/** As the gates do that read the manifest it is sealed with. */
export async function judge(db: Db, refreshId: string, tag: string, results: readonly GateResult[]) {
  const { manifestSha256 } = await version(db, DATASET, tag)
  return recordGates(db, { refreshId, tag, manifestSha256: manifestSha256 ?? 'none' }, results)
}

/** Opens a refresh and builds its version up to passed gates. */
export function passed(db: Db, parent: string | null = null): Promise<{ refreshId: string; tag: string }> {
  return judged(db, { refresh: aRefresh(), parent, results: [gate('pass')] })
}

/** Opens this refresh and builds its version up to what the gates say. */
export async function judged(
  db: Db,
  { refresh, parent = null, results }: { refresh: RefreshToOpen; parent?: string | null; results: GateResult[] },
): Promise<{ refreshId: string; tag: string }> {
  const { refreshId } = refresh
  await openRefresh(db, refresh)
  const { tag } = await allocate(db, refreshId)
  const mine = generation()
  await beginGeneration(db, attempt(refreshId, { generation: mine, parent }))
  await sealVersion(db, seal(tag, { parent, generation: mine }))
  await judge(db, refreshId, tag, results)
  return { refreshId, tag }
}

/** A whole refresh, from open to closed, that ends with readers on its version. */
export async function flipped(db: Db, from: string | null): Promise<string> {
  const { refreshId, tag } = await passed(db, from)
  await move(db, { kind: 'flip', from, to: tag, refreshId })
  await closeRefresh(db, { refreshId, status: 'FLIPPED', tag, summary: 'done', durationsMs: { build: 1 } })
  return tag
}

/** Intends and confirms it. */
export async function move(
  db: Db,
  flip: Pick<Parameters<typeof intendFlip>[1], 'kind' | 'from' | 'to' | 'refreshId' | 'bakeMs'>,
): Promise<string> {
  const flipId = randomUUID()
  await intendFlip(db, { flipId, dataset: DATASET, ...flip, reason: 'test', actor: 'ana' })
  await settleFlip(db, { flipId, outcome: 'confirmed', detail: {} })
  return flipId
}

export async function states(pool: pg.Pool): Promise<Record<string, string>> {
  const { rows } = await pool.query<{ tag: string; state: string }>(
    'select tag, state from snapflip.index_versions where dataset = $1 order by ordinal',
    [DATASET],
  )
  return Object.fromEntries(rows.map(({ tag, state }) => [tag, state]))
}
