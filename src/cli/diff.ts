import type { Command } from 'commander'
import { diffIndex, type IndexDiff } from '../snapshot/diff.ts'
import { heldVersion } from './held-version.ts'
import { interruption } from './interruption.ts'
import type { Session } from './session.ts'
import { table } from './table.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

type Difference =
  | (IndexDiff & { kind: 'both' })
  | {
      kind: 'added' | 'removed'
      inserted: number
      updated: 0
      deleted: number
      blocksRead: 0
      comparable: false
      sample: []
    }

export function diff(program: Command): void {
  verb(program, {
    usage: 'diff <dataset> <a> <b>',
    summary: 'what version b has otherwise than a: counts and sample keys; reads only blocks that differ',
    examples: [['snapflip diff shop v20260518-01 v20260518-02', 'what the second refresh changed']],
  }).action(act<CommonOptions, [string, string, string]>(run))
}

async function run(
  session: Session,
  _options: CommonOptions,
  dataset: string,
  tagA: string,
  tagB: string,
): Promise<Answer> {
  await session.dataset(dataset)
  const a = await heldVersion(session, dataset, tagA)
  const b = await heldVersion(session, dataset, tagB)
  const signal = interruption()
  const indexes: Record<string, Difference> = {}
  for (const name of new Set([...Object.keys(a.manifest.indexes), ...Object.keys(b.manifest.indexes)])) {
    const [left, right] = [a.manifest.indexes[name], b.manifest.indexes[name]]
    if (left !== undefined && right !== undefined) {
      const found = await diffIndex(
        a.store.data,
        { where: { dataset, index: name, tag: tagA }, index: left },
        { where: { dataset, index: name, tag: tagB }, index: right },
        signal,
      )
      indexes[name] = { kind: 'both', ...found }
    } else {
      indexes[name] = {
        kind: left === undefined ? 'added' : 'removed',
        inserted: right?.count ?? 0,
        updated: 0,
        deleted: left?.count ?? 0,
        blocksRead: 0,
        comparable: false,
        sample: [],
      }
    }
  }
  return {
    json: { dataset, a: tagA, b: tagB, same: a.manifest.digest === b.manifest.digest, indexes },
    text: textOf(indexes),
  }
}

function textOf(indexes: Record<string, Difference>): string {
  const rows = Object.entries(indexes).map(([name, found]) => [
    name,
    found.inserted,
    found.updated,
    found.deleted,
    found.blocksRead,
    found.kind === 'both' ? (found.comparable ? '' : 'laid out anew: not compared by key') : `index ${found.kind}`,
  ])
  const samples = Object.entries(indexes)
    .filter(([, found]) => found.sample.length > 0)
    .map(
      ([name, found]) => `${name}: ${found.sample.map(({ key, change }) => `${change} ${readable(key)}`).join(', ')}`,
    )
  const lines = [table(['index', 'inserted', 'updated', 'deleted', 'blocks read', ''], rows)]
  if (samples.length > 0) lines.push('', 'Some keys:', ...samples)
  return lines.join('\n')
}

/** Parts of a key are joined by a zero byte. */
function readable(key: string): string {
  return JSON.stringify(key.split('\0').join(' '))
}
