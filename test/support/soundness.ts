import { readdir } from 'node:fs/promises'
import { expect } from 'vitest'
import { verifyHistory } from '../../src/registry/verify-history.ts'
import { versions } from '../../src/registry/versions.ts'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import { verifyIndex } from '../../src/snapshot/verify.ts'
import type { World } from './world.ts'

/**
 * What must hold once a dataset has come to rest, whatever happened to its workers: nothing is open, registry and pointer agree, every kept
 * version is whole, nothing in the store belongs to none of them, no build left files behind, and the history's chain verifies. Of a version
 * that the store has lost its quarantine is left.
 */
export async function expectSound(world: World, { hasLost = false } = {}): Promise<void> {
  const { dataset, pool } = world
  const { rows } = await pool.query(
    `select (select count(*)::integer from snapflip.refresh_runs where closed_at is null) as refreshes,
            (select count(*)::integer from snapflip.flip_intents where outcome is null) as flips,
            (select count(*)::integer from snapflip.canaries where outcome is null) as canaries`,
  )
  expect(rows).toEqual([{ refreshes: 0, flips: 0, canaries: 0 }])
  const known = await versions(pool, dataset)
  const pointer = await world.pointer()
  expect(known.filter((row) => row.state === 'active').map((row) => row.tag)).toEqual([pointer.active?.tag])

  expect(pointer.candidate).toBeNull()

  const { data } = await world.store()
  const gone = ['building', 'retired', 'swept', ...(hasLost ? ['quarantined'] : [])]
  const kept = known.filter((row) => !gone.includes(row.state))
  const used = new Set<string>()
  for (const tag of await data.listManifests()) {
    const manifest = decodeManifest((await data.readManifest(tag)) ?? new Uint8Array(), { dataset, tag })
    for (const { generation } of [manifest, ...manifest.sources]) used.add(generation)
    for (const [name, index] of Object.entries(manifest.indexes)) {
      const read = await verifyIndex(data, { dataset, index: name, tag }, index, {
        signal: AbortSignal.timeout(60_000),
      })
      expect(read.problems, `${tag} ${name}`).toEqual([])
      expect({ count: read.count, sums: read.sums }).toEqual({ count: index.count, sums: index.sums })
    }
  }
  expect((await data.listManifests()).sort()).toEqual(kept.map((row) => row.tag).sort())
  const begun = (await data.generations()).map(({ generation }) => generation)
  expect(begun.filter((generation) => !used.has(generation))).toEqual([])
  expect([...used].filter((generation) => !begun.includes(generation))).toEqual([])
  expect(await readdir(world.workDir).catch(() => [])).toEqual([])
  await verifyHistory(pool)
}
