import type { Command } from 'commander'
import { requireKeyParts } from './key-parts.ts'
import { readerOf } from './reader-of.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  version?: string
  store?: string
}

export function get(program: Command): void {
  verb(program, {
    usage: 'get <dataset> <index> <key...>',
    summary: 'read a key as readers do, part by part where it has several; exit code 16 where there is none',
    examples: [
      ['snapflip get shop products 42', 'from the active version'],
      ['snapflip get shop products 42 --version v20260518-01', 'from another one'],
      ['snapflip get shop stock AT 42', 'a key of two parts'],
      ['snapflip get shop products 42 --store archive', 'from another of its stores'],
    ],
    ends: ['UNKNOWN_INDEX', 'NO_ACTIVE_VERSION', 'KEY_NOT_FOUND'],
  })
    .option('--version <tag>', 'read from this version')
    .option('--store <name>', 'read from this store; from the first one without')
    .action(act<Options, [string, string, string[]]>(run))
}

async function run(session: Session, options: Options, dataset: string, index: string, key: string[]): Promise<Answer> {
  const { pin, definition } = await readerOf(session, dataset, { index, tag: options.version, store: options.store })
  requireKeyParts(definition, key, { dataset, index })
  const parts = key.length === 1 ? (key[0] ?? '') : key
  const texts =
    definition.kind === 'many'
      ? (await pin.listBytes(index, parts)).map(String)
      : [await pin.getBytes(index, parts)].flatMap((bytes) => (bytes === undefined ? [] : [String(bytes)]))
  const found = texts.length > 0
  if (!found) session.note(`${index} of ${dataset} has no entry for ${key.join(', ')} in ${pin.version.tag}.`)
  const values = texts.map(exactJson)
  return {
    json: {
      dataset,
      index,
      key: parts,
      version: pin.version.tag,
      found,
      ...(definition.kind === 'many' ? { values } : found ? { value: values[0] } : {}),
    },
    text: texts.join('\n'),
    // A script shall not take a missing key for an empty value.
    ...(found ? {} : { code: 'KEY_NOT_FOUND' as const }),
  }
}

/** Numbers keep the digits PostgreSQL wrote, which a double may not hold. */
export function exactJson(text: string): unknown {
  const { parse, rawJSON } = JSON as unknown as {
    parse(text: string, reviver: (key: string, value: unknown, context: { source: string }) => unknown): unknown
    rawJSON(text: string): unknown
  }
  return parse(text, (_key, value, { source }) => (typeof value === 'number' ? rawJSON(source) : value))
}
