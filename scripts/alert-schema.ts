import { writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { alertBodySchema } from '../schemas/alerts.ts'

/** The JSON Schema of what a webhook is sent, made from the zod schema; `test/observe/alert-schema.unit.test.ts` holds the two equal. */
export function alertJsonSchema(): string {
  const schema = z.toJSONSchema(alertBodySchema, { io: 'input', target: 'draft-2020-12' })
  return `${JSON.stringify({ title: 'snapflip alert', ...schema }, null, 2)}\n`
}

if (import.meta.main) await writeFile(new URL('../schemas/alert.schema.json', import.meta.url), alertJsonSchema())
