/** One path of a definition that is not as it was; undefined: not there. */
export interface DefinitionChange {
  path: string
  before?: unknown
  after?: unknown
}

/** What changed between two definitions, by path, in the order of the paths. Lists are told whole: their order has a meaning. */
export function definitionChanges(before: unknown, after: unknown, path = ''): DefinitionChange[] {
  if (!isObject(before) || !isObject(after)) {
    if (same(before, after)) return []
    return [{ path, ...(before === undefined ? {} : { before }), ...(after === undefined ? {} : { after }) }]
  }
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return names.flatMap((name) => definitionChanges(before[name], after[name], path === '' ? name : `${path}.${name}`))
}

/** `gates.drift.sample: 1000 → 5000` */
export function changeText({ path, before, after }: DefinitionChange): string {
  const told = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value))
  return `${path}: ${told(before)} → ${told(after)}`
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** As jsonb compares: the order of an object's keys means nothing. */
function same(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, at) => same(item, b[at]))
  if (isObject(a) && isObject(b)) return definitionChanges(a, b).length === 0
  return Object.is(a, b)
}
