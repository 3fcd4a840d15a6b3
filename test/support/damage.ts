import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import type { Between } from '../stores/faults.ts'
import type { World } from './world.ts'

/** Overwrites the first block that this version wrote itself, on the disk of a folder store. */
export async function damageBlock(world: World, tag: string): Promise<void> {
  const store = await world.store()
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) throw new Error(`${tag} has no manifest`)
  const { generation } = decodeManifest(bytes, { dataset: world.dataset, tag })
  const pack = await open(join(store.url.slice('file:'.length), world.dataset, 'packs', generation, '0'), 'r+')
  try {
    await pack.write(Buffer.from('damaged!'), 0, 8, 8)
  } finally {
    await pack.close()
  }
}

/** Once armed, damages a block of the version that the next flip makes active. */
export function damagingFlips(world: World): Between & { armed: boolean } {
  return {
    armed: false,
    async run(operation, call) {
      const before = operation === 'pointer.swap' ? await world.pointer().catch(() => null) : null
      const result = await call()
      if (operation !== 'pointer.swap' || !this.armed) return result
      const { active } = await world.pointer()
      if (active !== null && active.tag !== before?.active?.tag) {
        this.armed = false
        await damageBlock(world, active.tag)
      }
      return result
    },
  }
}
