import type { ClientBase } from 'pg'
import type { VersionRef } from '../schemas/pointer.ts'
import { preflight } from '../src/changelog/capture.ts'
import type { Source } from '../src/changelog/source.ts'
import { watermarkStillThere } from '../src/changelog/watermark.ts'
import { currentSnapshot, isEmptyWindow } from '../src/changelog/window.ts'
import { reopenWaived } from '../src/registry/reopen-waived.ts'
import type { Refusal } from '../src/registry/standing-refusal.ts'
import { contentDigest } from '../src/snapshot/manifest.ts'
import type { BuildRequest, BuildResult } from './build.ts'
import type { BuiltIndex } from './built-index.ts'
import type { Deps } from './deps.ts'

/** The version that a person has let pass since it was refused, to be judged again as it is. */
export async function waivedVersion(
  deps: Deps,
  { dataset, refreshId, from }: BuildRequest,
): Promise<{ summary: string; version: VersionRef } | null> {
  const row = await reopenWaived(deps.pool, { dataset, refreshId, parent: from.tag })
  if (row === null || row.digest === null || row.manifestSha256 === null) return null
  const { tag, ordinal, digest, manifestSha256: manifest } = row
  return { summary: `${tag} again: what refused it was waived`, version: { tag, ordinal, digest, manifest } }
}

/** Whether the source says that it is as it was when the refused version was built. One without capture cannot say. */
export async function isAsRefused(
  client: ClientBase,
  sources: readonly Source[],
  { watermark }: Refusal,
  to: string,
): Promise<boolean> {
  if (sources.some((source) => source.kind === 'table' && !source.captured)) return false
  if (!(await watermarkStillThere(client, watermark))) return false
  const tables = await preflight(client, sources, watermark, await currentSnapshot(client))
  return tables.every(({ ok }) => ok) && (await isEmptyWindow(client, sources, { from: watermark, to }))
}

/** Whether what was built is what was refused. */
export function isWhatWasRefused(built: readonly BuiltIndex[], { digest, shapes }: Refusal): boolean {
  const indexes = Object.fromEntries(built.map(({ plan, manifest }) => [plan.name, manifest]))
  return contentDigest(indexes) === digest && built.every(({ plan, manifest }) => shapes[plan.name] === manifest.shape)
}

export function refusedAgain({ dataset }: BuildRequest, { tag, status, summary }: Refusal): BuildResult {
  return {
    changed: false,
    refused: status,
    summary: `not built again: source, definition and waivers are as when ${tag} was ${status === 'HELD' ? 'held' : 'rejected'} (${summary}). See \`snapflip show ${dataset} ${tag}\``,
  }
}
