import type { Command } from 'commander'
import type { Client } from 'pg'
import type { IndexManifest, Location, Manifest } from '../../schemas/manifest.ts'
import { resolveSource } from '../changelog/definition.ts'
import { type Change, lastChange } from '../changelog/explain.ts'
import { isSnapflipError } from '../core/errors.ts'
import type { VersionRow } from '../registry/version.ts'
import { versionOfGeneration } from '../registry/version-of-generation.ts'
import { versions as versionsOf } from '../registry/versions.ts'
import { encodeKey } from '../snapshot/entry.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import { readKey } from '../snapshot/read.ts'
import type { Store } from '../stores/ports.ts'
import { exactJson } from './get.ts'
import { heldVersion, indexOf } from './held-version.ts'
import { requireKeyParts } from './key-parts.ts'
import type { Session } from './session.ts'
import { card, formatTime } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  version?: string
}

/** What a value comes from: a change, a full build that read the row as it stood, or not known any more. */
type Origin =
  | { kind: 'change'; change: Change; version: string }
  | { kind: 'full build'; version: string; reason: string | null }
  | { kind: 'unknown'; why: string }

const OPS: Record<string, string> = { i: 'insert', u: 'update', d: 'delete', e: 'event' }
/** Each step back reads one window: more than this many versions are not kept anyway. */
const VERSIONS_MAX = 100

export function explain(program: Command): void {
  verb(program, {
    usage: 'explain <dataset> <index> <key...>',
    summary: "say which change, version, generation and block a key's value comes from",
    examples: [
      ['snapflip explain shop products 42', 'in the active version'],
      ['snapflip explain shop products 42 --version v20260518-01', 'in another one'],
    ],
  })
    .option('--version <tag>', 'in this version')
    .action(act<Options, [string, string, string[]]>(run))
}

async function run(
  session: Session,
  options: Options,
  dataset: string,
  name: string,
  parts: string[],
): Promise<Answer> {
  await session.dataset(dataset)
  const held = await heldVersion(session, dataset, options.version)
  const { store, manifest } = held
  const index = indexOf(held, name)
  requireKeyParts(index, parts, { dataset, index: name })
  const key = encodeKey(parts)
  const found = await readKey(store.data, { dataset, index: name, tag: manifest.tag }, index, key)
  const registry = await session.registry()
  const all = await versionsOf(registry, dataset)
  // Blocks are shared by all versions that did not change them.
  const writer = found.location === null ? null : await versionOfGeneration(registry, found.location.generation)
  const origin = await originOf(session, { store, manifest, name, key, all })
  const values = found.values.map((value) => exactJson(value.toString('utf8')))
  const location = found.location
  return {
    json: {
      dataset,
      index: name,
      key: parts.length === 1 ? parts[0] : parts,
      version: manifest.tag,
      watermark: manifest.watermark,
      values,
      block: found.block,
      blocks: 2 ** index.bits,
      location,
      writtenBy: writer,
      origin,
    },
    text: card([
      ['key', `${parts.join(', ')} of ${name} in ${dataset}`],
      ['version', `${manifest.tag}, watermark ${formatTime(manifest.watermark.at)} (${manifest.watermark.snapshot})`],
      ['value', found.values.length === 0 ? 'none' : found.values.map(String).join('\n')],
      ['change', originText(origin)],
      ['block', `${found.block} of ${2 ** index.bits}`],
      [
        'written by',
        writer === null ? null : `${writer} (the block; its other keys may have changed later than this one)`,
      ],
      ['generation', location?.generation ?? null],
      ['location', location === null ? 'empty block' : placeText(store, location)],
    ]),
  }
}

function placeText(store: Store, { pack, offset, length }: Location): string {
  const place =
    store.data.layout === 'keys' ? `object ${offset}` : `pack ${pack}, bytes ${offset} to ${offset + length}`
  return `${place} (${length} bytes) in ${store.url}`
}

/**
 * The last change of the key that the version holds: looked for in the version's own window, then in its parent's, and so on back to the full
 * build that read the row as it stood.
 */
async function originOf(
  session: Session,
  at: { store: Store; manifest: Manifest; name: string; key: Buffer; all: readonly VersionRow[] },
): Promise<Origin> {
  const { store, name, key, all } = at
  const declared = (await session.dataset(at.manifest.dataset)).indexes[name]
  if (declared === undefined) return { kind: 'unknown', why: 'the definition no longer has this index' }
  const client: Client = await session.builder()
  const source = await resolveSource(client, at.manifest.dataset, name, declared)
  let manifest = at.manifest
  for (let step = 0; step < VERSIONS_MAX; step++) {
    const index: IndexManifest | undefined = manifest.indexes[name]
    if (index === undefined) return { kind: 'unknown', why: `${manifest.tag} has no index ${name}` }
    if (index.build === 'full') return { kind: 'full build', version: manifest.tag, reason: index.reason }
    const parent: VersionRow | undefined = all.find(({ tag }) => tag === manifest.parent?.tag)
    if (parent?.watermark == null)
      return { kind: 'unknown', why: `the parent of ${manifest.tag} is not known any more` }
    if (source.shape !== index.shape)
      return { kind: 'unknown', why: 'the definition, or the shape of the source, is another by now' }
    if (index.build === 'incremental') {
      try {
        const change = await lastChange(client, source, key, {
          from: parent.watermark,
          to: manifest.watermark.snapshot,
        })
        if (change !== null) return { kind: 'change', change, version: manifest.tag }
      } catch (error) {
        if (!isSnapflipError(error)) throw error
        return { kind: 'unknown', why: error.message }
      }
    }
    const bytes = await store.data.readManifest(parent.tag)
    if (bytes === null) return { kind: 'unknown', why: `it came with ${parent.tag} or before, which is no longer kept` }
    manifest = decodeManifest(bytes, { dataset: manifest.dataset, tag: parent.tag })
  }
  return { kind: 'unknown', why: `it is older than ${VERSIONS_MAX} versions` }
}

function originText(origin: Origin): string {
  if (origin.kind === 'change') {
    const { op, table, xid, seq } = origin.change
    return `${OPS[op] ?? op}${table === null ? '' : ` on ${table}`}, transaction ${xid}, change ${seq}; first in ${origin.version}`
  }
  if (origin.kind === 'full build')
    return `none since the full build of ${origin.version}${origin.reason === null ? '' : ` (${origin.reason})`}`
  return `not known: ${origin.why}`
}
