import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { verifyVersion } from '../src/snapshot/verify.ts'
import type { Store } from '../src/stores/ports.ts'
import { readManifest } from './parent.ts'

/** Reading a version again, block by block. */
export interface Looking {
  dataset: string
  tell: (progress: string) => void
  signal: AbortSignal
}

/** What of the version is not in the store as it was sealed; null when every block is. Reads them all: about 1 s a million entries. */
export async function damageOf(
  store: Store,
  { dataset, tell, signal }: Looking,
  ref: VersionRef,
): Promise<string | null> {
  try {
    const manifest = await readManifest(store, dataset, ref)
    const onProgress = ({ blocks }: { blocks: number }) => tell(`checking ${ref.tag}: ${blocks} blocks`)
    const { problems } = await verifyVersion(store.data, manifest, { signal, onProgress })
    return problems[0]?.message ?? null
  } catch (error) {
    if (!isSnapflipError(error, 'CORRUPT') && !isSnapflipError(error, 'VERSION_RETIRED')) throw error
    return error.message
  }
}
