import { createRequire } from 'node:module'
import type { ValidateFunction } from 'ajv/dist/2020.js'

/** Where a schema is declared, not before: loading them takes longer than most verbs. */
const load = createRequire(import.meta.url)

/** A schema as a function. @throws Error saying why it is none: a misspelt keyword, a reference that leads nowhere. */
export function compileSchema(schema: Record<string, unknown>): ValidateFunction {
  const { Ajv2020 } = load('ajv/dist/2020.js') as typeof import('ajv/dist/2020.js')
  const { default: addFormats } = load('ajv-formats') as typeof import('ajv-formats')
  const ajv = new Ajv2020({
    strict: true,
    strictTypes: false,
    strictRequired: false,
    strictTuples: false,
    logger: false,
  })
  addFormats.default(ajv)
  const validate = ajv.compile(schema)
  // Its answer would be a promise, which is never false.
  if ('$async' in validate) throw new Error('a schema with $async')
  return validate
}
