import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
import type { Between } from '../stores/faults.ts'
import type { World } from './world.ts'

/** Overwrites the first block that this version wrote itself, on the disk of a folder store. Returns what puts it right. */
export async function damageBlock(world: World, tag: string): Promise<() => Promise<void>> {
  const store = await world.store()
  const bytes = await store.data.readManifest(tag)
  if (bytes === null) throw new Error(`${tag} has no manifest`)
  const { generation } = decodeManifest(bytes, { dataset: world.dataset, tag })
  const pack = join(store.url.slice('file:'.length), world.dataset, 'packs', generation, '0')
  const whole = await readFile(pack)
  const write = async (what: Buffer) => {
    const file = await open(pack, 'r+')
    try {
      await file.write(what, 0, 8, 8)
    } finally {
      await file.close()
    }
  }
  await write(Buffer.from('damaged!'))
  return () => write(whole.subarray(8, 16))
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
