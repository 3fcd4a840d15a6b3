import type { Command } from 'commander'
import type { Client } from 'pg'
import type { IndexManifest, Manifest } from '../../schemas/manifest.ts'
import { resolveSource } from '../changelog/definition.ts'
import { scanEventsAt, scanSource } from '../changelog/scan.ts'
import { inSnapshot } from '../changelog/session.ts'
import { lockNames } from '../changelog/source.ts'
import { watermarkStillThere } from '../changelog/watermark.ts'
import { windowSource } from '../changelog/window.ts'
import { type ErrorCode, isSnapflipError, type SnapflipError } from '../core/errors.ts'
import { verifyVersion } from '../snapshot/verify.ts'
import { ContentSums } from './content-sums.ts'
import { heldVersion } from './held-version.ts'
import { interruption } from './interruption.ts'
import type { Session } from './session.ts'
import { table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  rebuild?: boolean
  store?: string
}

/** `unproven`: nothing can be said, and why; it is no failure. */
type Proof = { verdict: 'equal' | 'different' | 'unproven'; found: string }

export function verify(program: Command): void {
  verb(program, {
    usage: 'verify <dataset> [tag]',
    summary: 're-read every block of a version and recompute its checksums, counts and digest',
    examples: [
      ['snapflip verify shop', 'the active version'],
      ['snapflip verify shop v20260518-01 --rebuild', 'and prove that it is what the source was at its watermark'],
      ['snapflip verify shop --store archive', 'as it lies in another of its stores'],
    ],
    ends: ['CORRUPT'],
  })
    .option('--rebuild', 'read the source now, fold the changes since backwards, and compare')
    .option('--store <name>', 'read it in this store; in the first one without')
    .action(act<Options, [string, string | undefined]>(run))
}

async function run(session: Session, options: Options, dataset: string, tag: string | undefined): Promise<Answer> {
  const definition = await session.dataset(dataset)
  const { store, manifest } = await heldVersion(session, dataset, tag, options.store)
  const signal = interruption()
  const evidence = await verifyVersion(store.data, manifest, { signal })
  const proofs: Record<string, Proof> = {}
  if (options.rebuild) {
    const client = await session.builder()
    for (const [name, index] of Object.entries(manifest.indexes)) {
      const declared = definition.indexes[name]
      proofs[name] =
        declared === undefined
          ? { verdict: 'unproven', found: 'the definition no longer has this index' }
          : await prove(client, manifest, name, index, declared, signal)
    }
  }
  const different = Object.values(proofs).some(({ verdict }) => verdict === 'different')
  const code: ErrorCode | null = evidence.problems.length > 0 ? 'CORRUPT' : different ? 'VERIFY_FAILED' : null
  const rows = Object.entries(evidence.indexes).map(([name, found]) => [
    name,
    found.blocks,
    found.count,
    found.corrupt === 0 ? 'sound' : `${found.corrupt} corrupt`,
    ...(options.rebuild ? [`${proofs[name]?.verdict}: ${proofs[name]?.found}`] : []),
  ])
  const lines = [
    table(['index', 'blocks', 'entries', 'bytes read again', ...(options.rebuild ? ['against the source'] : [])], rows),
  ]
  for (const problem of evidence.problems) lines.push(problem.message)
  lines.push(
    code === null
      ? `${manifest.tag} of ${dataset} is sound; its digest is ${evidence.digest}.`
      : `${manifest.tag} of ${dataset} is not what it should be. \`snapflip rollback ${dataset} --reason …\` takes readers to the version before, \`snapflip refresh ${dataset} --full --reason …\` builds anew.`,
  )
  return {
    json: {
      dataset,
      store: store.url,
      version: manifest.tag,
      digest: evidence.digest,
      sound: evidence.problems.length === 0,
      indexes: evidence.indexes,
      problems: evidence.problems.map(({ code, message, details }: SnapflipError) => ({ code, message, details })),
      ...(options.rebuild ? { proofs } : {}),
      ...(code === null ? {} : { code }),
    },
    text: lines.join('\n'),
    ...(code === null ? {} : { code }),
  }
}

/**
 * Of a table: the source in a snapshot of now, all its entries summed; then the changes since the version's watermark, before and after swapped: what
 * remains must be the version's own count and sums. The fold is its own inverse, and needs neither order nor memory. Events are kept as they
 * came: those that the watermark sees are read, and no others.
 */
async function prove(
  client: Client,
  manifest: Manifest,
  name: string,
  index: IndexManifest,
  declared: Parameters<typeof resolveSource>[3],
  signal: AbortSignal,
): Promise<Proof> {
  const unproven = (found: string): Proof => ({ verdict: 'unproven', found })
  const source = await resolveSource(client, manifest.dataset, name, declared)
  if (source.kind === 'table' && !source.captured)
    return unproven('its source is not captured, so its past is not known')
  if (source.shape !== index.shape) return unproven('its definition, or the shape of its source, is another by now')
  const sums = new ContentSums()
  try {
    if (source.kind === 'events') {
      const kept = await inSnapshot(client, [], async () => {
        if (!(await watermarkStillThere(client, manifest.watermark))) return false
        await scanEventsAt(client, source, manifest.watermark).read(sums, signal)
        return true
      })
      if (!kept) return unproven(compacted(manifest))
      return compared(sums, index)
    }
    const to = await inSnapshot(client, lockNames([source]), async (snapshot) => {
      await scanSource(client, source).read(sums, signal)
      return snapshot
    })
    await windowSource(client, source, { from: manifest.watermark, to }, { reverse: true }).read(sums, signal)
  } catch (error) {
    if (isSnapflipError(error, 'SOURCE_CHANGED') || isSnapflipError(error, 'LINEAGE_BROKEN'))
      return unproven(error.message)
    throw error
  }
  return compared(sums, index)
}

function compared(sums: ContentSums, index: IndexManifest): Proof {
  const [one, two] = sums.sums
  const equal = sums.count === index.count && one === index.sums[0] && two === index.sums[1]
  return {
    verdict: equal ? 'equal' : 'different',
    found: equal
      ? `${sums.count} entries, same sums`
      : `${sums.count} entries with sums ${one} ${two}, expected ${index.count} with ${index.sums.join(' ')}`,
  }
}

const compacted = ({ dataset, tag }: Manifest) =>
  `the watermark of ${tag} is no longer kept, so its events may have been compacted; ` +
  `\`snapflip verify ${dataset} --rebuild\` proves the active version, \`snapflip diff\` says what differs from that`
