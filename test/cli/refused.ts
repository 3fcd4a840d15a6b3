import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Project } from './project.ts'
import { json, type Ran } from './run.ts'

/** In addresses of bad-input tests: never told. */
export const PASSWORD = 'sekret-4711'

/** What a command is refused with. */
export interface Refusal {
  code: string
  exit: number
  expected: RegExp
}

/**
 * Exit code not 0, one clear message, no stack, no credential, nothing changed but that a refusal was recorded; the same as one document with --json.
 *
 * @param of whose database and folder must be as they were.
 * @param seen what else must be.
 */
export async function expectRefused(
  { run, ...of }: Project,
  args: readonly string[],
  { code, exit, expected }: Refusal,
  seen: () => Promise<unknown> = async () => null,
): Promise<void> {
  const state = async () => [await stateOf(of), await seen()]
  const before = await state()
  const [plain, document] = await Promise.all([run(args), run([...args, '--json'])])
  expect({ code: plain.code, stderr: plain.stderr }).toEqual({ code: exit, stderr: expect.stringMatching(expected) })
  expect(plain.stderr.match(/^snapflip: [A-Z_]+: /gm)).toEqual([`snapflip: ${code}: `])
  expect(json(document)).toMatchObject({ code, message: expect.stringMatching(expected), details: expect.any(Object) })
  expect(document.code).toBe(exit)
  for (const ran of [plain, document]) expectDiscreet(ran)
  expect(await state()).toEqual(before)
}

/** Every row that a decision is made of, every capture, and every file. */
async function stateOf({ database, folder }: Pick<Project, 'database' | 'folder'>): Promise<unknown> {
  const { rows } = await database.pool.query(
    `select 'history' as of, count(*), md5(string_agg(entry::text, '' order by entry::text)) as rows
       from snapflip.history as entry where kind <> 'action.refused'
      union all ${TABLES.map((name) => `select '${name}', count(*), md5(string_agg(a::text, '' order by a::text)) from snapflip.${name} as a`).join(' union all ')}
      union all select 'triggers', count(*), null from pg_trigger where not tgisinternal`,
  )
  return [rows, await readdir(folder), await readdir(join(folder, 'versions'), { recursive: true })]
}

const TABLES = [
  ...['datasets', 'definitions', 'captures', 'refresh_runs', 'index_versions', 'flip_intents', 'gate_verdicts'],
  ...['approval_requests', 'waivers', 'dataset_holds', 'quarantines', 'pins', 'canaries', 'drills', 'further_stores'],
]

export function expectDiscreet({ stdout, stderr }: Ran): void {
  expect(stdout + stderr).not.toMatch(/^\s+at /m)
  expect(stdout + stderr).not.toContain(PASSWORD)
}
