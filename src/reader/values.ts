import type { ZodType } from 'zod'
import { SnapflipError } from '../core/errors.ts'
import { corrupt } from '../snapshot/corrupt.ts'
import type { OpenIndex } from './version.ts'

export interface ValueOptions {
  /** Checks and types the values of an index. */
  schemas?: Readonly<Record<string, ZodType | undefined>>
  /** The shape (as the manifest has it) an index must have for this reader. */
  shapes?: Readonly<Record<string, string | undefined>>
  /** Instead of JSON.parse: for numbers that a double cannot hold, for instance. */
  parse?: (text: string, index: string) => unknown
}

const SHAPE_FIELDS_MAX = 12

/** Turns an index's bytes into values. Throws SHAPE_MISMATCH when they are not what the reader declared. */
export class Values {
  readonly #schemas: ReadonlyMap<string, ZodType>
  readonly #shapes: ReadonlyMap<string, string>
  readonly #parse: ((text: string, index: string) => unknown) | undefined

  constructor(options: ValueOptions) {
    this.#schemas = definedOf(options.schemas)
    this.#shapes = definedOf(options.shapes)
    this.#parse = options.parse
  }

  decode(bytes: Buffer, index: OpenIndex): unknown {
    const text = bytes.toString()
    const value = this.#parse === undefined ? parseJson(text, index) : this.#parse(text, index.name)
    if (this.#schemas.size === 0) return value
    const schema = this.#schemas.get(index.name)
    if (schema === undefined) return value
    const parsed = schema.safeParse(value)
    if (parsed.success) return parsed.data
    const declared = parsed.error.issues
      .map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`)
      .join('; ')
    throw mismatch(index, declared, `${shapeOf(value)} (definition ${index.shape})`, parsed.error)
  }

  /** Throws unless the index is of this kind and has the shape this reader declared, if it did. */
  checkShape(index: OpenIndex, kind: OpenIndex['kind'] | null): void {
    if (kind !== null && index.kind !== kind) {
      throw mismatch(
        index,
        kind === 'unique' ? 'one value a key (get, getMany)' : 'many values a key (list)',
        index.kind === 'unique' ? 'one value a key: use get' : 'many values a key: use list',
      )
    }
    if (this.#shapes.size === 0) return
    const declared = this.#shapes.get(index.name)
    if (declared !== undefined && declared !== index.shape) throw mismatch(index, declared, index.shape)
  }
}

function parseJson(text: string, index: OpenIndex): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw corrupt(index.where, 'a value', 'JSON', `${text.length} characters that do not parse`, cause)
  }
}

function mismatch(index: OpenIndex, declared: string, found: string, cause?: unknown): SnapflipError {
  const { dataset, index: name, tag = null } = index.where
  return new SnapflipError(
    'SHAPE_MISMATCH',
    `${name} of ${dataset} at ${tag} has another shape than this reader declared: expected ${declared}; found ${found}. ` +
      `Deploy the reader that fits the definition, or take readers back: snapflip rollback ${dataset}`,
    { dataset, index: name, tag, declared, found },
    cause,
  )
}

/** Types and field names, never contents. */
function shapeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return value.length === 0 ? '[]' : `[${shapeOf(value[0])}]`
  if (typeof value !== 'object') return typeof value
  const fields = Object.entries(value).map(([name, field]) => {
    return `${name}: ${field === null ? 'null' : Array.isArray(field) ? 'list' : typeof field}`
  })
  const more = fields.length > SHAPE_FIELDS_MAX ? ', …' : ''
  return `{${fields.slice(0, SHAPE_FIELDS_MAX).join(', ')}${more}}`
}

function definedOf<V>(record: Readonly<Record<string, V | undefined>> | undefined): Map<string, V> {
  return new Map(Object.entries(record ?? {}).filter((entry): entry is [string, V] => entry[1] !== undefined))
}
