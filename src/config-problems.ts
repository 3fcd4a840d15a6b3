import type { z } from 'zod'

type Issue = z.core.$ZodIssue

/** Below these paths texts may be credentials: what was found there is told by its kind alone. */
const SECRET = new Set(['database', 'stores', 'temporal'])
/** Of a sink: a URL may hold a token, and a secret may have been put where its name belongs. */
const SECRET_OF_SINK = new Set(['url', 'urlEnv', 'secretEnv'])
const FOUND_CHARS_MAX = 60
const PROBLEMS_MAX = 20

/** One line a problem: path, what was expected, what was found. */
export function describeProblems(issues: readonly Issue[]): string[] {
  const problems = issues.flatMap((issue) => describe(issue, []))
  if (problems.length <= PROBLEMS_MAX) return problems
  return [...problems.slice(0, PROBLEMS_MAX), `and ${problems.length - PROBLEMS_MAX} more`]
}

function describe(issue: Issue, above: readonly PropertyKey[]): string[] {
  const path = [...above, ...issue.path]
  if (issue.code === 'invalid_union') {
    const branch = likeliest(issue.errors)
    if (branch !== null) return branch.flatMap((inner) => describe(inner, path))
    if (issue.discriminator !== undefined) {
      const { [issue.discriminator]: input } = issue.input as Record<string, unknown>
      return [`${pathText(path)}: ${issue.message}, found ${found({ ...issue, input }, path)}`]
    }
  }
  if (issue.code === 'unrecognized_keys') {
    return [
      `${pathText(path)}: expected no other keys than snapflip knows, found ${issue.keys.map((key) => `"${key}"`).join(', ')}`,
    ]
  }
  return [`${pathText(path)}: ${expected(issue)}, found ${found(issue, path)}`]
}

/**
 * Which alternative was meant: the one that objects least, and not to the very kind of what it was given. Null when all of them do: then they
 * are told together.
 */
function likeliest(branches: readonly (readonly Issue[])[]): readonly Issue[] | null {
  const weighed = branches.map((branch) => ({
    branch,
    weight: branch.reduce((sum, issue) => sum + (isKind(issue) ? 100 : lacksMark(issue) ? 50 : 1), 0),
  }))
  const best = weighed.reduce((a, b) => (b.weight < a.weight ? b : a), weighed[0] ?? { branch: [], weight: 100 })
  return best.weight >= 100 ? null : best.branch
}

const isKind = (issue: Issue) => issue.path.length === 0 && issue.code === 'invalid_type'
/** `events: true` is what makes an index one of events. */
const lacksMark = (issue: Issue) => issue.code === 'invalid_value' && issue.input === undefined

function expected(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${article(issue.expected)}`
    case 'invalid_value':
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`
    case 'too_small':
      return issue.origin === 'string' || issue.origin === 'array'
        ? `expected a ${issue.origin === 'string' ? 'text' : 'list'} that is not empty`
        : `expected at least ${issue.minimum}`
    case 'too_big':
      return `expected at most ${issue.maximum}${issue.origin === 'array' ? ' of them' : ''}`
    case 'invalid_union':
      return `expected ${[...new Set(issue.errors.flatMap((branch) => branch.filter(isKind).map((inner) => article((inner as { expected?: string }).expected ?? ''))))].join(' or ')}`
    case 'invalid_key':
      return issue.issues.map((inner) => inner.message).join('; ')
    default:
      return /^expected/.test(issue.message) ? issue.message : `expected another value (${issue.message})`
  }
}

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
}
const article = (kind: string) => KINDS[kind] ?? kind

function found(issue: Issue, path: readonly PropertyKey[]): string {
  const input = issue.code === 'invalid_key' ? path.at(-1) : issue.input
  if (input === undefined) return 'nothing'
  if (input === null) return 'null'
  if (Array.isArray(input)) return input.length === 0 ? 'an empty list' : 'a list'
  if (typeof input === 'object') return 'an object'
  if (typeof input === 'function') return 'a function'
  if (input === '') return 'an empty text'
  if (typeof input === 'string' && isSecret(path)) return 'another text'
  const text = typeof input === 'string' ? JSON.stringify(input) : String(input)
  return text.length > FOUND_CHARS_MAX ? `${text.slice(0, FOUND_CHARS_MAX)}…` : text
}

const isSecret = ([root, ...below]: readonly PropertyKey[]) =>
  SECRET.has(String(root)) || (root === 'alerts' && SECRET_OF_SINK.has(String(below.at(-1))))

function pathText(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'the definition'
  return path
    .map((part, at) => (typeof part === 'number' ? `[${part}]` : `${at === 0 ? '' : '.'}${String(part)}`))
    .join('')
}
