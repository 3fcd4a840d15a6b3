import { writeFile } from 'node:fs/promises'
import { ERRORS } from '../src/core/errors.ts'

/** The errors page, made from the registry of errors; `test/core/errors.test.ts` holds the two equal. */
export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, { meaning, exit, http, retryable }]) =>
      `| \`${code}\` | ${meaning} | ${exit} | ${http} | ${retryable ? 'yes' : 'no'} |`,
  )
  return `# Errors

Every error that leaves snapflip has one of these codes. The message says what was expected, what was found and what to do; ids are fields of
its details. *Retry* says whether the same call may succeed later without anybody changing anything. Made by \`node scripts/errors-page.ts\`.

| code | meaning | exit code | HTTP | retry |
|---|---|---|---|---|
${rows.join('\n')}
`
}

if (import.meta.main) await writeFile(new URL('../runbooks/errors.md', import.meta.url), errorsPage())
