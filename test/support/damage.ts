import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeManifest } from '../../src/snapshot/manifest.ts'
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
