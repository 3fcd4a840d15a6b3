import { writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { configSchema } from '../schemas/config.ts'

/** The JSON Schema of snapflip.config.json, made from the zod schema; `test/cli/config.unit.test.ts` holds the two equal. */
export function configJsonSchema(): string {
  const schema = z.toJSONSchema(configSchema, { io: 'input', target: 'draft-2020-12' })
  return `${JSON.stringify({ title: 'snapflip.config.json', ...schema }, null, 2)}\n`
}

if (import.meta.main) await writeFile(new URL('../schemas/config.schema.json', import.meta.url), configJsonSchema())
