import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')

/** file → import → whether the lint rules of biome.json refuse it. */
const cases: [file: string, specifier: string, verdict: 'allowed' | 'refused'][] = [
  ['schemas/a.ts', 'zod', 'allowed'],
  ['schemas/a.ts', '../src/core/errors.ts', 'refused'],
  ['src/core/a.ts', '../../schemas/pointer.ts', 'allowed'],
  ['src/core/a.ts', './errors.ts', 'allowed'],
  ['src/core/a.ts', '../registry/flip.ts', 'refused'],
  ['src/core/a.ts', '../stores/ports.ts', 'refused'],
  ['src/core/a.ts', 'node:fs', 'refused'],
  ['src/core/a.ts', 'pg', 'refused'],
  ['src/stores/a.ts', '../core/errors.ts', 'allowed'],
  ['src/stores/a.ts', '../snapshot/entry.ts', 'allowed'],
  ['src/stores/a.ts', 'ioredis', 'allowed'],
  ['src/stores/a.ts', '../../activities/flip.ts', 'refused'],
  ['src/stores/redis/a.ts', '../../cli/main.ts', 'refused'],
  ['src/registry/a.ts', '@temporalio/client', 'refused'],
  ['src/gates/a.ts', '../reader/open.ts', 'refused'],
  ['src/reader/a.ts', '../stores/ports.ts', 'allowed'],
  ['src/reader/a.ts', '../registry/flip.ts', 'refused'],
  ['src/reader/a.ts', '../changelog/window.ts', 'refused'],
  ['src/reader/a.ts', 'pg', 'refused'],
  ['src/reader/a.ts', 'pg-copy-streams', 'refused'],
  ['src/reader/a.ts', '@temporalio/common', 'refused'],
  ['workflows/a.ts', '@temporalio/workflow', 'allowed'],
  ['workflows/a.ts', '@temporalio/common', 'allowed'],
  ['workflows/a.ts', '../src/core/errors.ts', 'allowed'],
  ['workflows/a.ts', '../schemas/pointer.ts', 'allowed'],
  ['workflows/a.ts', './steps.ts', 'allowed'],
  ['workflows/a.ts', '@temporalio/client', 'refused'],
  ['workflows/a.ts', '../src/stores/ports.ts', 'refused'],
  ['workflows/a.ts', 'node:crypto', 'refused'],
  ['activities/a.ts', '../src/registry/flip.ts', 'allowed'],
  ['activities/a.ts', '../src/cli/main.ts', 'refused'],
  ['src/cli/a.ts', '../../activities/flip.ts', 'refused'],
  ['src/cli/rollback-direct.ts', '../../activities/flip.ts', 'allowed'],
  ['src/cli/hold.ts', '../../activities/hold.ts', 'allowed'],
  ['src/cli/quarantine.ts', '../../activities/quarantine.ts', 'allowed'],
  ['src/local/a.ts', '../registry/migrate.ts', 'refused'],
]

test('the linter refuses every import that points the wrong way, and no other', async () => {
  const files = cases.map(([file, specifier], index) => ({
    path: file.replace(/\ba\.ts$/, `a${index}.ts`),
    text: `import { a } from '${specifier}'\nexport const b = a\n`,
  }))
  const findings = await lint(files)
  const refused = new Set(
    findings.filter(({ rule }) => rule === 'lint/style/noRestrictedImports').map(({ path }) => path),
  )
  const verdicts = cases.map(([file, specifier], index) => {
    return [file, specifier, refused.has(files[index]?.path ?? '') ? 'refused' : 'allowed']
  })
  expect(verdicts).toEqual(cases)
})

test('the linter refuses a promise that nobody waits for', async () => {
  const findings = await lint([{ path: 'a.ts', text: 'async function f(): Promise<void> {}\nf()\n' }])
  expect(findings).toContainEqual({ rule: 'lint/nursery/noFloatingPromises', path: 'a.ts' })
})

// The linter sees one import at a time, and cannot tell a type from a value: these two look at what really loads.

test('workflows load nothing of activities but their types, and of src nothing but core', async () => {
  const loaded = await loadedBy(['workflows/index.ts'])
  expect(loaded).toContain('workflows/refresh.ts')
  expect(loaded.filter((file) => /^(activities|src)\//.test(file) && !file.startsWith('src/core/'))).toEqual([])
})

test('the reader loads neither PostgreSQL nor Temporal, however indirectly', async () => {
  const entries = [
    ...(await filesIn('src/reader')),
    ...(existsSync(join(root, 'src/index.ts')) ? ['src/index.ts'] : []),
  ]
  const loaded = await loadedBy(entries)
  expect(loaded).toEqual(expect.arrayContaining(entries))
  const unwanted =
    /^(node_modules\/(pg|pg-[^/]+|node-pg-migrate|@temporalio)\/|src\/(registry|changelog\/(?!append\.ts)|gates|cli|local)|activities\/|workflows\/)/
  expect(loaded.filter((file) => unwanted.test(file))).toEqual([])
})

/** The files, relative to the root, that Node loads for `entries`: types are stripped before, so they do not count. */
async function loadedBy(entries: readonly string[]): Promise<string[]> {
  const script = `
    import { registerHooks } from 'node:module'
    import { writeSync } from 'node:fs'
    registerHooks({
      resolve(specifier, context, next) {
        const resolved = next(specifier, context)
        writeSync(1, resolved.url + '\\n')
        return resolved
      },
    })
    for (const entry of ${JSON.stringify(entries.map((entry) => join(root, entry)))}) await import(entry)`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: root,
    maxBuffer: 64e6,
  })
  const files = stdout.split('\n').filter((url) => url.startsWith('file:'))
  return [...new Set(files.map((url) => relative(root, fileURLToPath(url))))]
}

async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(join(root, folder), { recursive: true }).catch(() => [])
  return names.filter((name) => name.endsWith('.ts')).map((name) => join(folder, name))
}

async function lint(files: readonly { path: string; text: string }[]): Promise<{ rule: string; path: string }[]> {
  const project = await mkdtemp(join(tmpdir(), 'snapflip-house-'))
  try {
    await cp(join(root, 'biome.json'), join(project, 'biome.json'))
    for (const { path, text } of files) {
      await mkdir(join(project, dirname(path)), { recursive: true })
      await writeFile(join(project, path), text)
    }
    // The copy lies in no git work tree, so the ignore file is left out.
    const args = ['lint', '--vcs-enabled=false', '--max-diagnostics=none', '--reporter=json', '.']
    // Findings are its purpose here, so its exit code is not looked at.
    const { stdout } = await run(join(root, 'node_modules/.bin/biome'), args, { cwd: project, maxBuffer: 64e6 }).catch(
      (failure: { stdout: string }) => failure,
    )
    const { diagnostics } = JSON.parse(stdout) as { diagnostics: { category: string; location: { path: string } }[] }
    return diagnostics.map(({ category, location }) => ({ rule: category, path: location.path }))
  } finally {
    await rm(project, { recursive: true })
  }
}
