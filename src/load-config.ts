import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, extname, join, relative, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { type Config, configSchema, type DatasetDefinition } from '../schemas/config.ts'
import { describeProblems } from './config-problems.ts'
import { ERRORS, isSnapflipError, SnapflipError } from './core/errors.ts'
import { own } from './core/own.ts'
import { whoMay } from './core/roles.ts'
import { gateProblems } from './gate-problems.ts'
import type { GateFunctions } from './gates/user-function.ts'
import { plainDefinition } from './plain-definition.ts'

/** In this order in each folder. */
export const FILE_NAMES = [
  'snapflip.config.ts',
  'snapflip.config.js',
  'snapflip.config.mjs',
  'snapflip.config.json',
] as const

export interface LoadedConfig {
  config: Config
  /** What the definition cannot hold as JSON. */
  functions: GateFunctions
  /** Absolute path of the definition. */
  file: string
}

/**
 * Loads the definition: `file`, or the nearest snapflip.config.ts, .js or .json in `from` and the folders above it. Relative `file:`
 * stores are meant from the definition's folder, so that every process finds the same ones.
 *
 * @throws SnapflipError CONFIG_INVALID: path into the definition, what was expected, what was found. Never a credential.
 */
export async function loadConfig(file?: string, from: string = process.cwd()): Promise<LoadedConfig> {
  const path = file === undefined ? nearest(from) : resolve(from, file)
  if (!existsSync(path)) {
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Expected the definition at ${path}, found no file. Correct --config, or write one with \`snapflip init\`.`,
      { file: path },
    )
  }
  const unset = new Set<string>()
  const written = extname(path) === '.json' ? await readJson(path, unset) : await evaluate(path, unset)
  const { config, functions } = parseDefinition(written, relative(process.cwd(), path) || path, unset)
  const folder = dirname(path)
  const stores = Object.fromEntries(Object.entries(config.stores).map(([name, url]) => [name, anchored(url, folder)]))
  return { config: { ...config, stores }, functions, file: path }
}

/**
 * Parses what a definition file gave.
 *
 * @param name of the file, for messages.
 * @param unset environment variables that it read and that have no value.
 */
export function parseConfig(written: unknown, name: string, unset?: ReadonlySet<string>): Config {
  return parseDefinition(written, name, unset).config
}

function parseDefinition(
  written: unknown,
  name: string,
  unset: ReadonlySet<string> = new Set(),
): { config: Config; functions: GateFunctions } {
  const plain = plainDefinition(written)
  const parsed = configSchema.safeParse(plain.written, { reportInput: true })
  const problems = [
    ...plain.problems,
    ...(parsed.success
      ? [...crossProblems(parsed.data), ...gateProblems(parsed.data, plain.functions)]
      : describeProblems(parsed.error.issues)),
  ]
  // `process.env.NAME` gives nothing, and within a text the word "undefined"; a definition with a default of its own has neither.
  const lacking = problems.some((problem) => problem.endsWith('found nothing')) || holdsUndefined(plain.written)
  if (parsed.success && problems.length === 0 && !(lacking && unset.size > 0))
    return { config: parsed.data, functions: plain.functions }
  const environment =
    lacking && unset.size > 0 ? [`environment: expected ${[...unset].join(', ')} to be set, found no value`] : []
  const all = [...environment, ...problems]
  const [first] = all
  throw new SnapflipError(
    'CONFIG_INVALID',
    all.length === 1
      ? `${name}: ${first}. Correct it there.`
      : `${name} has ${all.length} problems; correct them there:\n${all.map((problem) => `  ${problem}`).join('\n')}`,
    { file: name, problems: all },
  )
}

function sameStore({ stores }: Config, a: string, b: string): boolean {
  return a === b || (stores[a] !== undefined && stores[a] === stores[b])
}

/** What one part of the definition says about another. */
function crossProblems(config: Config): string[] {
  const problems = databaseProblems(config.database)
  for (const [dataset, definition] of Object.entries(config.datasets)) {
    const { stores, publish, indexes, schedule, retries } = definition
    for (const [position, store] of stores.entries()) {
      if (config.stores[store] !== undefined) continue
      const known = Object.keys(config.stores).join(', ') || 'none'
      problems.push(
        `datasets.${dataset}.stores[${position}]: expected a name of \`stores\` (${known}), found "${store}"`,
      )
    }
    const twice = stores.find((store, position) =>
      stores.some((other, at) => at < position && sameStore(config, store, other)),
    )
    if (twice !== undefined)
      problems.push(
        `datasets.${dataset}.stores: expected every store once, found "${twice}" again, or another name of it`,
      )
    if (publish !== undefined && stores.length === 1)
      problems.push(`datasets.${dataset}.publish: expected only where several stores are named, found one`)
    // `apply` looks whether such a login is there.
    if (whoMay(definition, 'apply')?.every((actor) => actor.startsWith('temporal:'))) {
      problems.push(
        `datasets.${dataset}.roles: expected at least one login that is ${definition.may.apply} or more, who may apply the next definition, found none`,
      )
    }
    for (const [position, code] of (retries?.codes ?? []).entries())
      if (!Object.hasOwn(ERRORS, code))
        problems.push(
          `datasets.${dataset}.retries.codes[${position}]: expected a code of runbooks/errors.md, found ${JSON.stringify(code)}`,
        )
    for (const [position, sink] of (retries?.tell ?? []).entries())
      if (own(config.alerts.sinks, sink) === undefined)
        problems.push(
          `datasets.${dataset}.retries.tell[${position}]: expected a name of \`alerts.sinks\` (${Object.keys(config.alerts.sinks).join(', ') || 'none'}), found ${JSON.stringify(sink)}`,
        )
    problems.push(...approvalProblems(config, dataset, definition))
    for (const [index, declared] of Object.entries(indexes)) {
      if ('events' in declared) continue
      if (declared.rebuildAfterMs !== undefined && declared.capture !== 'none')
        problems.push(
          `datasets.${dataset}.indexes.${index}.rebuildAfterMs: expected only with capture: 'none', found it where changes are captured`,
        )
      if (schedule?.continuous !== undefined && declared.capture === 'none' && declared.rebuildAfterMs === undefined)
        problems.push(
          `datasets.${dataset}.indexes.${index}.rebuildAfterMs: expected with capture: 'none' in continuous mode, found nothing: when shall it be read again?`,
        )
      if (declared.order === undefined || declared.many) continue
      problems.push(
        `datasets.${dataset}.indexes.${index}.order: expected only with many: true, found it in an index of one value a key`,
      )
    }
  }
  const known = Object.keys(config.datasets)
  for (const [sink, declared] of Object.entries(config.alerts.sinks)) {
    if (declared.kind === 'log') continue
    for (const [position, dataset] of (declared.datasets ?? []).entries())
      if (!known.includes(dataset))
        problems.push(
          `alerts.sinks.${sink}.datasets[${position}]: expected a name of \`datasets\` (${known.join(', ') || 'none'}), found "${dataset}"`,
        )
  }
  return problems
}

/** A request that nobody could answer, or an escalation that reaches nobody. */
function approvalProblems(config: Config, dataset: string, definition: DatasetDefinition): string[] {
  const { approval } = definition
  if (approval === undefined || approval.when === 'never') return []
  const problems: string[] = []
  if (whoMay(definition, 'approve')?.every((actor) => actor.startsWith('temporal:'))) {
    problems.push(
      `datasets.${dataset}.approval: expected at least one login that is ${definition.may.approve} or more, who may approve, found none`,
    )
  }
  const sinks = Object.keys(config.alerts.sinks)
  for (const [position, sink] of (approval.escalate?.sinks ?? []).entries())
    if (!sinks.includes(sink))
      problems.push(
        `datasets.${dataset}.approval.escalate.sinks[${position}]: expected a name of \`alerts.sinks\` (${sinks.join(', ') || 'none'}), found "${sink}"`,
      )
  return problems
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify']

/** What pg would take without a word: a URL of another database, and a mode of TLS that it does not know, which it takes for none. */
function databaseProblems(database: Config['database']): string[] {
  const url = typeof database === 'string' ? database : database.connectionString
  // A socket's folder is no URL.
  if (url === undefined || url.startsWith('/')) return []
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase() ?? null
  if (scheme === null || !['postgres', 'postgresql', 'socket'].includes(scheme)) {
    const found = scheme === null ? 'no URL' : `one of the scheme ${scheme}:`
    return [`database: expected a URL postgres://user:password@host:port/database, found ${found}`]
  }
  const mode = /[?&]sslmode=([^&#]*)/i.exec(url)?.[1]
  if (mode === undefined || SSL_MODES.includes(mode)) return []
  return [`database: sslmode: expected ${SSL_MODES.join(', ')}, found ${JSON.stringify(mode)}`]
}

function holdsUndefined(written: unknown): boolean {
  if (typeof written === 'string') return written.includes('undefined')
  if (typeof written !== 'object' || written === null) return false
  return Object.values(written).some(holdsUndefined)
}

/** The definition of a folder or one above it; null where there is none. */
export function findConfig(from: string): string | null {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    const found = FILE_NAMES.map((name) => join(folder, name)).find((path) => existsSync(path))
    if (found !== undefined) return found
    if (dirname(folder) === folder) return null
  }
}

function nearest(from: string): string {
  const found = findConfig(from)
  if (found !== null) return found
  throw new SnapflipError(
    'CONFIG_INVALID',
    `Expected ${FILE_NAMES.join(', ')} in ${from} or a folder above it, found none. Write one with \`snapflip init\`, or name it with --config FILE.`,
    { folder: from },
  )
}

/** Runs the module. Any Node that snapflip supports can then read TypeScript, and `snapflip/config` is this very package. */
async function evaluate(path: string, unset: Set<string>): Promise<unknown> {
  const { createJiti } = await import('jiti')
  const self = fileURLToPath(import.meta.url)
  const jiti = createJiti(self, {
    fsCache: false,
    moduleCache: false,
    interopDefault: true,
    alias: { 'snapflip/config': join(dirname(self), `config${extname(self)}`) },
  })
  const source = await readFile(path, 'utf8')
  const environment = process.env
  process.env = new Proxy(environment, {
    get(target, name) {
      const value = Reflect.get(target, name) as string | undefined
      // Only what the definition itself names: what it imports has its own business with the environment.
      if (value === undefined && typeof name === 'string' && source.includes(name)) unset.add(name)
      return value
    },
  })
  try {
    const module = await jiti.import<{ default?: unknown }>(pathToFileURL(path).href)
    if (typeof module === 'object' && module !== null && 'default' in module) return module.default
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Expected ${path} to have a default export (\`export default defineConfig({ … })\`), found none.`,
      { file: path },
    )
  } catch (error) {
    if (isSnapflipError(error)) throw error
    const found = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, ' ').trim()
    throw new SnapflipError(
      'CONFIG_INVALID',
      `${path} cannot be loaded: ${found}. Correct it there.`,
      { file: path },
      error,
    )
  } finally {
    process.env = environment
  }
}

/** JSON has no `process.env`: `${NAME}` within a text stands for that environment variable. */
async function readJson(path: string, unset: Set<string>): Promise<unknown> {
  const text = await readFile(path, 'utf8')
  try {
    return JSON.parse(text, (key, value: unknown) =>
      typeof value !== 'string'
        ? value
        : key === '$schema'
          ? undefined
          : value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_whole, name: string) => {
              const found = process.env[name]
              if (found === undefined) unset.add(name)
              return found ?? 'undefined'
            }),
    )
  } catch (error) {
    const found = error instanceof Error ? error.message : String(error)
    throw new SnapflipError(
      'CONFIG_INVALID',
      `Expected JSON in ${path}, found: ${found}. Correct it there.`,
      { file: path },
      error,
    )
  }
}

function anchored(url: string, folder: string): string {
  if (!/^file:/i.test(url) || /^file:\//i.test(url)) return url
  return pathToFileURL(resolve(folder, decodeURIComponent(url.slice('file:'.length)))).href
}
