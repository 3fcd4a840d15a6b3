import { writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { incidentSchema } from '../schemas/incident.ts'

/** The JSON Schema of an exported incident, made from the zod schema; `test/observe/incident.unit.test.ts` holds the two equal. */
export function incidentJsonSchema(): string {
  const schema = z.toJSONSchema(incidentSchema, { io: 'input', target: 'draft-2020-12' })
  return `${JSON.stringify({ title: 'snapflip incident', ...schema }, null, 2)}\n`
}

if (import.meta.main) await writeFile(new URL('../schemas/incident.schema.json', import.meta.url), incidentJsonSchema())
