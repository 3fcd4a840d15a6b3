import type { Command } from 'commander'
import { buildEvidenceSchema } from '../../schemas/evidence.ts'
import type { GateResult } from '../../schemas/refresh.ts'
import { isSnapflipError } from '../core/errors.ts'
import { formatBytes } from '../core/format-bytes.ts'
import { approvals } from '../registry/approvals.ts'
import { copies } from '../registry/copies.ts'
import { gateResults } from '../registry/gate-results.ts'
import { readRefreshes } from '../registry/refreshes.ts'
import { version as versionOf } from '../registry/version.ts'
import { versions as versionsOf } from '../registry/versions.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import { approvalText } from './approval-text.ts'
import { gateTable } from './gate-table.ts'
import { heldVersion } from './held-version.ts'
import { interruption } from './interruption.ts'
import { keysOfHashes } from './keys-of-hashes.ts'
import { ranUnder } from './ran-under.ts'
import type { Session } from './session.ts'
import { card, formatTime, table } from './table.ts'
import { unknownVersion } from './unknown-version.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  keys?: boolean
}

export function show(program: Command): void {
  verb(program, {
    usage: 'show <dataset> <tag>',
    summary: "a version's identity card: where it comes from, what it holds, what the gates found",
    examples: [
      ['snapflip show shop v20260518-01', 'the evidence of one version'],
      ['snapflip show shop v20260518-02 --keys', 'with the keys that gates name by hash'],
    ],
  })
    .option('--keys', 'read the blocks of the version for the sampled keys: evidence has their hashes alone')
    .action(act<Options, [string, string]>(run))
}

async function run(session: Session, options: Options, dataset: string, tag: string): Promise<Answer> {
  await session.dataset(dataset)
  const registry = await session.registry()
  const row = await versionOf(registry, dataset, tag).catch(async (error: unknown) => {
    if (!isSnapflipError(error, 'UNKNOWN_VERSION')) throw error
    throw unknownVersion(
      dataset,
      tag,
      (await versionsOf(registry, dataset)).map((version) => version.tag),
    )
  })
  const gates = await gateResults(registry, dataset, tag)
  const asked = await approvals(registry, { dataset, tag })
  const [refresh = null] = await readRefreshes(registry, 'where id = $1', [row.refreshId])
  const store = await session.store(dataset)
  const bytes = row.manifestSha256 === null ? null : await store.data.readManifest(tag)
  const manifest =
    bytes === null || row.manifestSha256 === null
      ? null
      : decodeManifest(bytes, { dataset, tag, sha256: row.manifestSha256 })
  const keys = options.keys === true ? await sampledKeys(session, dataset, tag, gates) : new Map<string, string>()
  const evidence = buildEvidenceSchema.safeParse(row.counts).data ?? {}
  const stored = manifest?.sources.reduce((sum, source) => sum + source.bytes, 0) ?? null

  const identity = card([
    ['version', `${tag} of ${dataset}`],
    ['state', `${row.state} since ${formatTime(row.stateAt)}`],
    [
      'asked for by',
      refresh === null ? null : `${refresh.requestedBy}${refresh.reason === null ? '' : `: ${refresh.reason}`}`,
    ],
    ['ran under', ranUnder(refresh)],
    ...asked.map((approval) => ['approval', approvalText(approval)] as const),
    ['parent', row.parent],
    ['sealed', formatTime(row.sealedAt)],
    [
      'watermark',
      row.watermark === null ? null : `${formatTime(row.watermark.at)}, snapshot ${row.watermark.snapshot}`,
    ],
    ['digest', row.digest],
    ['manifest', row.manifestSha256],
    ['generation', row.generation],
    ['also in', (await alsoIn(session, dataset, tag)).join(', ') || null],
    ['in the store', stored === null ? `no manifest in ${store.url}` : `${formatBytes(stored)} in ${store.url}`],
  ])
  const indexes = Object.entries(manifest?.indexes ?? {}).map(([name, index]) => {
    const built = evidence[name]
    return [
      name,
      index.kind,
      index.count,
      formatBytes(index.bytes),
      index.build,
      built === undefined || row.parent === null
        ? null
        : `+${built.inserted} ~${built.updated ?? '?'} -${built.deleted}`,
      index.reason,
    ]
  })
  const parts = [identity]
  if (indexes.length > 0)
    parts.push(table(['index', 'kind', 'entries', 'bytes', 'build', 'against parent', 'why'], indexes))
  parts.push(gates.length === 0 ? 'No gate has looked at it.' : gateTable(gates, keys))
  return {
    json: {
      dataset,
      version: row,
      refresh,
      approvals: asked,
      manifest,
      gates,
      storedBytes: stored,
      ...(options.keys === true ? { keys: Object.fromEntries(keys) } : {}),
    },
    text: parts.join('\n\n'),
  }
}

/** Names of the further stores that have a copy of it. */
async function alsoIn(session: Session, dataset: string, tag: string): Promise<string[]> {
  const registry = await session.registry()
  const names: string[] = []
  for (const { name, store } of await session.furtherStores(dataset))
    if ((await copies(registry, { dataset, url: store.url })).has(tag)) names.push(name)
  return names
}

async function sampledKeys(session: Session, dataset: string, tag: string, gates: readonly GateResult[]) {
  const { store, manifest } = await heldVersion(session, dataset, tag)
  const wanted = new Map<string, Set<string>>()
  // A gate of the whole dataset names keys of any of its indexes.
  for (const { index, sampleKeys } of gates)
    for (const name of index === null ? Object.keys(manifest.indexes) : [index])
      wanted.set(name, new Set([...(wanted.get(name) ?? []), ...sampleKeys]))
  return keysOfHashes(store.data, manifest, wanted, interruption())
}
