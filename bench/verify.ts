import { decodeManifest } from '../src/snapshot/manifest.ts'
import { verifyVersion } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { timed } from './report.ts'

/** What `snapflip verify` does: reads every object of the active version again and recomputes all that is said of it. Returns ms. */
export async function verify(store: Store, dataset: string): Promise<number> {
  const active = (await store.pointer.read())?.pointer.active
  const bytes = active ? await store.data.readManifest(active.tag) : null
  if (!active || bytes === null) throw new Error(`${dataset} has no active version`)
  const manifest = decodeManifest(bytes, { dataset, tag: active.tag, sha256: active.manifest })
  return await timed(async () => {
    const { problems } = await verifyVersion(store.data, manifest, { signal: new AbortController().signal })
    if (problems[0] !== undefined) throw problems[0]
  })
}
