import type pg from 'pg'
import type { Manifest } from '../../schemas/manifest.ts'
import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import type { DecidedState } from '../core/history-kinds.ts'
import type { VersionState } from '../core/version-state.ts'
import { takeOver } from './absorb.ts'
import { activeHold } from './active-hold.ts'
import { appliedStore } from './applied-store.ts'
import { lockDataset } from './dataset-lock.ts'
import { putHold } from './hold.ts'
import { putQuarantine } from './quarantine.ts'
import { raiseEpoch } from './raise-epoch.ts'
import { record } from './record.ts'
import { followState } from './set-version-state.ts'
import { type Db, transaction } from './transaction.ts'
import { versions } from './versions.ts'

/** What a store was read to hold of a dataset. */
interface StoreContents {
  url: string
  pointer: Pointer | null
  /** Tags of all its manifests. */
  tags: readonly string[]
  /** Versions that the registry may not know; without `ref`: nobody can read what is there. */
  found: ReadonlyArray<{ tag: string; ref: VersionRef | null; manifest: Manifest | null }>
}

/**
 * Makes a registry that is older than the store (restored, behind after a failover, or new) go on from what the store has: versions it does not
 * know become known, states follow the pointer, and no tag, ordinal or epoch that the store has seen is issued again. A version that nothing
 * shows to have been active is `rejected`: nobody knows whether it passed its gates. In a store that the dataset has just moved to, versions
 * that are not there are `swept`. Nothing of that: nothing happens.
 *
 * @returns the tags that were adopted.
 */
export async function adoptStore(
  db: Db,
  { dataset, store }: { dataset: string; store: StoreContents },
): Promise<string[]> {
  return transaction(db, async (client) => {
    const { epochRegistry } = await lockDataset(client, dataset)
    const { isNew } = await appliedStore(client, dataset)
    const { pointer } = store
    const rows = new Map((await versions(client, dataset)).map((row) => [row.tag, row]))
    // A seal is in the registry before its manifest is in the store: a manifest without one was sealed in another registry.
    const unknown = store.found.filter(({ tag, ref }) => {
      const row = rows.get(tag)
      const isBack = isNew && (row?.state === 'swept' || row?.state === 'retired')
      return row === undefined || row.manifestSha256 === null || (isBack && row.manifestSha256 === ref?.manifest)
    })
    const isOlder =
      pointer !== null &&
      (pointer.epoch.registry > epochRegistry || unknown.some(({ tag }) => tag === pointer.active?.tag))
    const adopted: string[] = []
    const adopt = async (version: Adopted, why: string) => {
      await client.query(ADOPT, [dataset, ...valuesOf(version)])
      const { tag, state, ref } = version
      adopted.push(tag)
      const detail = {
        state,
        why,
        store: store.url,
        digest: ref?.digest ?? null,
        manifestSha256: ref?.manifest ?? null,
      }
      await record(client, { dataset, actor: null, kind: 'version.adopted', version: tag, detail })
    }

    const wasActive = new Set([
      ...(pointer === null ? [] : [pointer.active?.tag, pointer.previous?.tag, ...pointer.flips.map(({ tag }) => tag)]),
      ...store.found.map(({ manifest }) => manifest?.parent?.tag),
    ])
    for (const { tag, ref, manifest } of unknown.toSorted((a, b) => (a.ref?.ordinal ?? 0) - (b.ref?.ordinal ?? 0))) {
      const state = ref === null ? 'retired' : wasActive.has(tag) ? 'retained' : 'rejected'
      await adopt({ tag, state, ref, manifest }, WHY[state])
    }
    if (pointer !== null && (isOlder || isNew)) {
      const named = [...wasActive, ...pointer.quarantined, ...pointer.retired].filter((tag) => tag !== undefined)
      for (const tag of new Set(named)) {
        if (rows.has(tag) || adopted.includes(tag)) continue
        await adopt({ tag, state: 'swept', ref: null, manifest: null }, 'named by the pointer; nothing of it is left')
      }
      // With what they quarantine and hold; then the pointer's word for all of it.
      if (isOlder) await takeOver(client, { dataset, store: store.url, entries: pointer.breakGlass })
      await followPointer(client, pointer, store.url)
    }
    if (isOlder || isNew) await leaveWhatIsGone(client, { dataset, store, to: isNew ? 'swept' : 'retired' })
    if (pointer !== null && isOlder) {
      await raiseEpoch(client, dataset, pointer.epoch.registry)
      await adoptFlip(client, pointer, store.url)
    }
    return adopted
  })
}

interface Adopted {
  tag: string
  state: Extract<VersionState, 'retained' | 'rejected' | 'retired' | 'swept'>
  ref: VersionRef | null
  manifest: Manifest | null
}

const WHY = {
  retained: 'in the store, and active before',
  rejected: 'in the store, and nothing shows that it passed its gates',
  retired: 'in the store, and its manifest cannot be read',
} as const

const valuesOf = ({ tag, state, ref, manifest }: Adopted) => [
  tag,
  state,
  ref?.ordinal ?? null,
  ref?.digest ?? null,
  ref?.manifest ?? null,
  manifest?.generation ?? null,
  manifest === null ? null : JSON.stringify(manifest.watermark),
  manifest?.parent?.tag ?? null,
  manifest?.createdAt ?? null,
]

/** Its own ordinal, if no other version has it; its parent, if that is known. A row that was never sealed becomes this version's. */
const ADOPT = `
  insert into snapflip.index_versions as known
    (dataset, tag, ordinal, day, state, digest, manifest_sha256, generation, watermark, parent, created_at, sealed_at)
  select $1, $2,
         case when $4::integer is null or exists (select from snapflip.index_versions where dataset = $1 and ordinal = $4)
              then (select coalesce(max(ordinal), 0) + 1 from snapflip.index_versions where dataset = $1) else $4 end,
         to_date(substr($2, 2, 8), 'YYYYMMDD'), $3, $5, $6, $7, $8,
         (select tag from snapflip.index_versions where dataset = $1 and tag = $9),
         coalesce($10::timestamptz, clock_timestamp()),
         case when $5::text is not null then coalesce($10::timestamptz, clock_timestamp()) end
  on conflict (dataset, tag) do update
     set state = excluded.state, state_at = clock_timestamp(), refresh_id = null, digest = excluded.digest,
         manifest_sha256 = excluded.manifest_sha256, sealed_manifest_sha256 = null, generation = excluded.generation, watermark = excluded.watermark,
         parent = excluded.parent, sealed_at = excluded.sealed_at`

/** What the lost part of the registry had decided: which version is active, what is quarantined, retired and held. */
async function followPointer(client: pg.ClientBase, pointer: Pointer, url: string): Promise<void> {
  const { dataset, hold } = pointer
  const active = pointer.active?.tag ?? null
  const why = `as the pointer in ${url} has it`
  const wasFlippedTo = new Set([pointer.previous?.tag, ...pointer.flips.map(({ tag }) => tag)])
  const quarantined = new Set(pointer.quarantined)
  for (const tag of quarantined) {
    if (!(await putQuarantine(client, { dataset, tag, by: 'snapflip', reason: why }))) continue
    await record(client, { dataset, actor: null, kind: 'quarantine', version: tag, detail: { reason: why } })
  }
  const target = (tag: string, state: VersionState): DecidedState | null => {
    if (tag === active) return 'active'
    if (state === 'swept' || state === 'retired') return null
    if (pointer.retired.includes(tag)) return 'retired'
    if (quarantined.has(tag)) return 'quarantined'
    const isPast = state === 'active' || ((state === 'sealed' || state === 'candidate') && wasFlippedTo.has(tag))
    return isPast ? 'retained' : null
  }
  const rows = await versions(client, dataset)
  // The one that is no longer active first: at no moment are two (versions_one_active).
  for (const { tag, state } of rows.toSorted((a, b) => Number(a.tag === active) - Number(b.tag === active))) {
    const to = target(tag, state)
    if (to !== null) await followState(client, { dataset, tag, from: state, to, why })
  }
  if (hold !== null && (await activeHold(client, dataset)) === null) {
    await putHold(client, dataset, hold)
    await record(client, { dataset, actor: null, kind: 'hold', detail: { ...hold, why } })
  }
}

/** Versions of which the store has not even the manifest. One whose refresh is open may be sealed and not written yet. */
async function leaveWhatIsGone(
  client: pg.ClientBase,
  { dataset, store, to }: { dataset: string; store: StoreContents; to: 'retired' | 'swept' },
): Promise<void> {
  const kept = ['building', 'sealed', 'retired', 'swept', ...(to === 'swept' ? [] : ['active'])]
  for (const { tag, state } of await versions(client, dataset)) {
    const isLeft = store.tags.includes(tag) || tag === store.pointer?.active?.tag
    if (isLeft || kept.includes(state)) continue
    await followState(client, { dataset, tag, from: state, to, why: `not in ${store.url}` })
  }
}

/** The last flip as the pointer remembers it, so that the registry knows from now on what it would have to bring back. */
async function adoptFlip(client: pg.ClientBase, pointer: Pointer, url: string): Promise<void> {
  const { dataset, active, flipId, epoch } = pointer
  if (active === null || flipId === null) return
  const from = pointer.flips[1]?.tag ?? null
  const kind = from !== null && pointer.quarantined.includes(from) ? 'rollback' : 'flip'
  const detail = { store: url, adopted: true }
  const values = [flipId, dataset, kind, from, active.tag, epoch.registry, epoch.breakGlass, JSON.stringify(detail)]
  const { rowCount } = await client.query(ADOPT_FLIP, values)
  if (rowCount === 0) return
  await record(client, {
    dataset,
    actor: null,
    kind: `${kind}.confirmed`,
    version: active.tag,
    detail: { flipId, from, to: active.tag, epoch: epoch.registry, detail },
  })
}

const ADOPT_FLIP = `
  insert into snapflip.flip_intents (id, dataset, kind, from_tag, to_tag, epoch, epoch_break_glass, reason, actor, outcome, settled_at, detail)
  values ($1, $2, $3, $4, $5, $6, $7, 'found in the store', session_user, 'confirmed', clock_timestamp(), $8)
  on conflict do nothing`
