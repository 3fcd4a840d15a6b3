import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { GateFunction, GateFunctions } from './gates/user-function.ts'

/** Checks of zod that JSON Schema has no word for: left out, the gate would pass what the schema refuses. */
const UNSAYABLE = new Set(['custom', 'overwrite'])

/**
 * The definition as plain JSON: a zod schema becomes the JSON Schema of what it takes, a function of a gate the SHA-256 of its text, so that the digest
 * of the definition says when one changed. What a function reaches outside its own text is not in it.
 */
export function plainDefinition(written: unknown): { written: unknown; functions: GateFunctions; problems: string[] } {
  const functions = new Map<string, GateFunction>()
  const problems: string[] = []
  const schemaOf = (value: unknown, path: string) => {
    if (!isZod(value)) return value
    try {
      return jsonSchemaOf(value)
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error)
      problems.push(`${path}: expected a schema that JSON Schema can say, found: ${found}`)
      return {}
    }
  }
  const plainGates = (dataset: string, gates: Plain): Plain => ({
    ...gates,
    ...within(gates, 'valueSchema', (declared, index) =>
      isPlain(declared)
        ? { ...declared, schema: schemaOf(declared.schema, `datasets.${dataset}.gates.valueSchema.${index}.schema`) }
        : declared,
    ),
    ...within(gates, 'user', (gate, name) => {
      if (!isPlain(gate) || typeof gate.function !== 'function') return gate
      functions.set(`${dataset}/${name}`, gate.function as GateFunction)
      return { ...gate, function: { sha256: createHash('sha256').update(String(gate.function)).digest('hex') } }
    }),
  })
  if (!isPlain(written)) return { written, functions, problems }
  const datasets = within(written, 'datasets', (definition, dataset) =>
    isPlain(definition) && isPlain(definition.gates)
      ? { ...definition, gates: plainGates(dataset, definition.gates) }
      : definition,
  )
  return { written: { ...written, ...datasets }, functions, problems }
}

type Plain = Record<string, unknown>
const isPlain = (value: unknown): value is Plain => typeof value === 'object' && value !== null && !Array.isArray(value)
/** Version 4, whichever copy of it; older ones have no way to JSON Schema. */
const isZod = (value: unknown): value is z.core.$ZodType => isPlain(value) && ('_zod' in value || '_def' in value)

/** `{ [key]: … }` with each value below it changed; nothing where there is none. */
function within(of: unknown, key: string, change: (value: unknown, name: string) => unknown): Plain {
  if (!isPlain(of) || of[key] === undefined) return {}
  const below = of[key]
  if (!isPlain(below)) return { [key]: below }
  return { [key]: Object.fromEntries(Object.entries(below).map(([name, value]) => [name, change(value, name)])) }
}

function jsonSchemaOf(schema: z.core.$ZodType): unknown {
  if (!('_zod' in schema)) throw new Error('a schema of a zod before 4')
  const made = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    io: 'input',
    unrepresentable: 'throw',
    override: ({ zodSchema }) => {
      const { def } = zodSchema._zod
      if (def.type === 'pipe' && def.in._zod.def.type === 'transform')
        throw new Error('a change of the value (preprocess)')
      for (const check of zodSchema._zod.def.checks ?? []) {
        const { check: name } = check._zod.def
        if (UNSAYABLE.has(name))
          throw new Error(
            name === 'custom'
              ? 'a refinement (refine, superRefine, check)'
              : 'a change of the value (trim, toLowerCase, overwrite)',
          )
      }
    },
  })
  return JSON.parse(JSON.stringify(made))
}
