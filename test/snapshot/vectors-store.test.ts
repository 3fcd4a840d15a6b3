import { execFile } from 'node:child_process'
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { manifestSchema } from '../../schemas/manifest.ts'
import { pointerSchema } from '../../schemas/pointer.ts'
import { openStore } from '../../src/stores/open.ts'
import { CONTENTS, DATASET, makeStore, STORE } from './vectors-store.ts'

const run = promisify(execFile)
let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'snapflip-vectors-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

test('the folder driver writes the vector store byte for byte: a difference is a new format', async () => {
  const made = join(folder, 'made')
  await makeStore(made)
  const files = (root: string) =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
      .sort()
  expect(files(made)).toEqual(files(STORE))
  for (const name of files(STORE).filter((name) => !name.startsWith(`${DATASET}/pointer/`)))
    expect(readFileSync(join(made, name)).equals(readFileSync(join(STORE, name))), name).toBe(true)
  // A pointer may gain fields: one without them still means the same.
  expect(await pointerIn(STORE)).toEqual(await pointerIn(made))
})

async function pointerIn(folder: string): Promise<unknown> {
  const store = await openStore(`file:${folder}`, { dataset: DATASET })
  const read = await store.pointer.read()
  await store.close()
  return read?.pointer
}

describe('a reader written from the format page alone', () => {
  /** Away from the repository: what it imports it must find in Node. */
  async function read(...args: string[]): Promise<{ tag: string; digest: string; indexes: unknown }> {
    const reader = join(folder, 'reader.mjs')
    copyFileSync(join(import.meta.dirname, 'vectors-reader.mjs'), reader)
    const { stdout } = await run(process.execPath, [reader, STORE, DATASET, ...args], { cwd: folder })
    return JSON.parse(stdout)
  }

  test('follows the pointer to the active version, and finds every value and the digest', async () => {
    const { tag, indexes } = await read()
    expect({ tag, indexes }).toEqual({ tag: 'v20260518-02', indexes: CONTENTS[1] })
  })

  test('reads the version before it, whose blocks the active one shares', async () => {
    const { tag, indexes } = await read('v20260518-01')
    expect({ tag, indexes }).toEqual({ tag: 'v20260518-01', indexes: CONTENTS[0] })
  })

  test('finds nothing for keys that are not there, the deleted one among them', async () => {
    const { folderStore, readVersion } = await import('./vectors-reader.mjs')
    const absent = { products: ['8', '', '60', 'schlussel'], byCategory: ['lamps', 'red'], sparse: ['three'] }
    await expect(readVersion(folderStore(STORE, DATASET), { absent })).resolves.toMatchObject({ tag: 'v20260518-02' })
    await expect(readVersion(folderStore(STORE, DATASET), { absent: { products: ['7'] } })).rejects.toThrow(
      /"7" is not/,
    )
  })

  test('notices a byte that is another', async () => {
    const { folderStore, readVersion } = await import('./vectors-reader.mjs')
    const store = folderStore(STORE, DATASET)
    const damaged = {
      ...store,
      object: async (location: object) => {
        const bytes = Buffer.from(await store.object(location))
        if (bytes[0] === 1) bytes.writeUInt8(bytes.readUInt8(9) ^ 1, 9)
        return bytes
      },
    }
    await expect(readVersion(damaged)).rejects.toThrow(/xxh64 of block/)
  })
})

/** Bytes that the page shows: `N bytes from M of \`file\``, then lines whose first columns are hex. */
const page = readFileSync(join(import.meta.dirname, '../../docs/format.md'), 'utf8')
const shown = [
  ...page.matchAll(/^(\d+) bytes from (\d+) of `([^`]+)` in the vector store[^\n]*\n\n```\n([\s\S]*?)^```/gm),
]
const HEX_COLUMNS = 58

test.each([
  ['Pointer', pointerSchema],
  ['Manifest', manifestSchema],
])('the page tells every field of the %s', (heading, schema) => {
  const section = page.slice(page.indexOf(`\n## ${heading}\n`)).split('\n## ')[1] ?? ''
  const told = [...section.matchAll(/`(\w+)(?:\.<name>)?`/g)].map(([, field]) => field)
  for (const field of Object.keys(schema.shape)) expect(told, field).toContain(field)
})

test('the page shows bytes of a block and of a page', () => expect(shown).toHaveLength(2))

test.each(shown.map(([, length, from, file, lines = '']) => ({ length, from, file: file as string, lines })))(
  '$length bytes of $file that the page shows are those of the vector store',
  ({ length, from, file, lines }) => {
    const hex = lines.replace(/^.*$/gm, (line) => line.slice(0, HEX_COLUMNS)).replaceAll(/\s/g, '')
    const pack = readFileSync(join(STORE, DATASET, file))
    expect(hex).toBe(pack.toString('hex', Number(from), Number(from) + Number(length)))
  },
)
