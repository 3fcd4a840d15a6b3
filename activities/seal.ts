import type { BuildEvidence } from '../schemas/evidence.ts'
import { MANIFEST_FORMAT, type Manifest, READER_FORMAT, type Watermark } from '../schemas/manifest.ts'
import type { VersionRef } from '../schemas/pointer.ts'
import { isSnapflipError } from '../src/core/errors.ts'
import { allocateVersion } from '../src/registry/allocate-version.ts'
import { sealVersion } from '../src/registry/seal-version.ts'
import { versionOfRefresh } from '../src/registry/versions.ts'
import { whileSealed } from '../src/registry/while-sealed.ts'
import { contentDigest, encodeManifest, manifestHash } from '../src/snapshot/manifest.ts'
import { manifestSources } from '../src/snapshot/read.ts'
import type { Store } from '../src/stores/ports.ts'
import type { BuildRequest } from './build.ts'
import type { BuiltIndex } from './built-index.ts'
import type { Deps } from './deps.ts'
import type { Parent } from './parent.ts'

const WRITER = 'snapflip'

/** What an earlier attempt of this refresh sealed, if its manifest is in the store; the manifest it meant to write, if not. */
export async function sealedBefore(
  deps: Deps,
  store: Store,
  { refreshId }: BuildRequest,
): Promise<{ version: VersionRef } | { unwritten: string } | null> {
  const row = await versionOfRefresh(deps.pool, refreshId)
  if (row?.state !== 'sealed' || row.manifestSha256 === null || row.digest === null) return null
  const bytes = await store.data.readManifest(row.tag)
  // Another manifest under its tag is that of a seal which this one has replaced, put by an attempt that was paused.
  if (bytes === null || manifestHash(bytes) !== row.manifestSha256) return { unwritten: row.manifestSha256 }
  return { version: { tag: row.tag, ordinal: row.ordinal, digest: row.digest, manifest: row.manifestSha256 } }
}

/** Makes the version known by its manifest: in the registry, then in the store. */
export async function seal(
  deps: Deps,
  store: Store,
  { dataset, refreshId }: BuildRequest,
  {
    parent,
    watermark,
    built,
    replaces,
  }: { parent: Parent | null; watermark: Watermark; built: BuiltIndex[]; replaces: string | null },
): Promise<VersionRef> {
  const createdAt = new Date()
  const { tag, ordinal } = await allocateVersion(deps.pool, { dataset, refreshId, day: createdAt })
  const generations = built.flatMap((index) => (index.generation === null ? [] : [index.generation]))
  const indexes = Object.fromEntries(built.map((index) => [index.plan.name, index.manifest]))
  const builds = Object.fromEntries(
    built.map((index) => [index.plan.name, { index: index.manifest, sources: index.sources }]),
  )
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    minReader: READER_FORMAT,
    dataset,
    tag,
    ordinal,
    parent: parent === null ? null : { tag: parent.ref.tag, manifest: parent.ref.manifest },
    createdAt: createdAt.toISOString(),
    generation: generations[0] ?? (parent as Parent).manifest.generation,
    watermark,
    digest: contentDigest(indexes),
    indexes,
    sources: await manifestSources(store.data, dataset, parent?.manifest ?? null, builds),
    writer: WRITER,
  }
  const bytes = encodeManifest(manifest)
  const version: VersionRef = { tag, ordinal, digest: manifest.digest, manifest: manifestHash(bytes) }
  const counts: BuildEvidence = Object.fromEntries(built.map((index) => [index.plan.name, index.evidence]))
  // The registry first, with the evidence: a manifest in the store then always has its evidence. An attempt that dies in between leaves a
  // seal without a manifest, which the next one replaces.
  await sealVersion(deps.pool, {
    dataset,
    tag,
    digest: version.digest,
    manifestSha256: version.manifest,
    watermark,
    parent: parent?.ref.tag ?? null,
    counts,
    generation: manifest.generation,
    adopted: generations,
    replaces,
  })
  await putSealed(deps, store, dataset, version, bytes)
  return version
}

/** What a paused attempt put under the tag after its seal was replaced is nobody's, and makes room. */
async function putSealed(
  deps: Deps,
  store: Store,
  dataset: string,
  { tag, manifest }: VersionRef,
  bytes: Uint8Array,
): Promise<void> {
  try {
    await store.data.putManifest(tag, bytes)
  } catch (error) {
    if (!isSnapflipError(error, 'CONFLICT')) throw error
    await whileSealed(deps.pool, { dataset, tag, manifestSha256: manifest }, async () => {
      await store.data.deleteManifest(tag)
      await store.data.putManifest(tag, bytes)
    })
  }
}
