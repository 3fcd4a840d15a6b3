import type { z } from 'zod'
import { SnapflipError } from '../src/core/errors.ts'

/** What started a workflow, typed by hand maybe. @throws SnapflipError USAGE, with all that is wrong. */
export function parseRequest<S extends z.ZodType>(schema: S, request: unknown, what: string): z.output<S> {
  const parsed = schema.safeParse(request)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'input'}: ${issue.message}`).join('; ')
  throw new SnapflipError(
    'USAGE',
    `Expected {"dataset": "…", …} to start ${what}, found ${issues}. Start it again with such an input.`,
  )
}
