import type { Config, DatasetDefinition } from '../schemas/config.ts'
import { compileSchema } from './gates/json-schema.ts'
import type { GateFunctions } from './gates/user-function.ts'

/** What gates say of indexes and columns that are not there, and what they are given that cannot be used. */
export function gateProblems(config: Config, functions: GateFunctions): string[] {
  return Object.entries(config.datasets).flatMap(([dataset, definition]) => [
    ...keyProblems(dataset, definition),
    ...columnProblems(dataset, definition),
    ...schemaProblems(dataset, definition),
    ...functionProblems(dataset, definition, functions),
  ])
}

function keyProblems(dataset: string, { indexes, gates }: DatasetDefinition): string[] {
  return Object.entries(gates.requiredKeys ?? {}).flatMap(([index, { keys }]) => {
    const at = `datasets.${dataset}.gates.requiredKeys`
    const declared = indexes[index]
    if (declared === undefined) return [unknownIndex(at, index, indexes)]
    if (!('key' in declared)) return []
    const parts = [declared.key].flat().length
    return keys
      .filter((key) => [key].flat().length !== parts)
      .map(
        (key) =>
          `${at}.${index}: expected keys of ${parts} part${parts === 1 ? '' : 's'}, found ${JSON.stringify(key)}`,
      )
  })
}

function columnProblems(dataset: string, { indexes, gates }: DatasetDefinition): string[] {
  return Object.entries(gates.columns ?? {}).flatMap(([index, columns]) => {
    const at = `datasets.${dataset}.gates.columns`
    const declared = indexes[index]
    if (declared === undefined) return [unknownIndex(at, index, indexes)]
    const value = 'value' in declared ? declared.value : null
    if (!Array.isArray(value)) return []
    return Object.keys(columns)
      .filter((column) => !value.includes(column))
      .map((column) => `${at}.${index}: expected a value column (${value.join(', ')}), found "${column}"`)
  })
}

function schemaProblems(dataset: string, { indexes, gates }: DatasetDefinition): string[] {
  return Object.entries(gates.valueSchema ?? {}).flatMap(([index, { schema }]) => {
    const at = `datasets.${dataset}.gates.valueSchema`
    if (indexes[index] === undefined) return [unknownIndex(at, index, indexes)]
    try {
      compileSchema(schema)
      return []
    } catch (error) {
      const found = error instanceof Error ? error.message : String(error)
      return [`${at}.${index}.schema: expected a JSON Schema (draft 2020-12), found one that is none: ${found}`]
    }
  })
}

/** A hash that was written by hand stands for no function. */
function functionProblems(dataset: string, { gates }: DatasetDefinition, functions: GateFunctions): string[] {
  return Object.entries(gates.user ?? {})
    .filter(([name, gate]) => gate.kind === 'function' && !functions.has(`${dataset}/${name}`))
    .map(
      ([name]) =>
        `datasets.${dataset}.gates.user.${name}.function: expected a function, which a .ts or .js definition can hold, found an object`,
    )
}

function unknownIndex(at: string, index: string, indexes: DatasetDefinition['indexes']): string {
  return `${at}: expected a name of \`indexes\` (${Object.keys(indexes).join(', ')}), found "${index}"`
}
