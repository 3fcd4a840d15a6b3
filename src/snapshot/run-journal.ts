import { createHash } from 'node:crypto'
import { appendFile, mkdir, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256Hex } from './hash.ts'
import { type Chunk, guarded, type StoredChunk } from './run-chunk.ts'

/** The first line of a journal: runs that were made otherwise are of no use. */
export interface Layout {
  format: 1
  kind: string
  seed: string
  partitionBits: number
}

const journalLine = (value: unknown) => {
  const json = JSON.stringify(value)
  return `${createHash('sha256').update(json).digest('hex').slice(0, 16)} ${json}\n`
}

function storedOf({ id, note, entries, bytes, file, extents }: Chunk): StoredChunk {
  return { id, note, entries, bytes, file, extents }
}

function parseJournalLine(line: string): unknown {
  const json = line.slice(17)
  return sha256Hex(json).slice(0, 16) === line.slice(0, 16) ? JSON.parse(json) : undefined
}

/**
 * The chunks that an earlier process finished, when they were made for the same layout. A torn last line counts as not written; files that no line
 * names are removed.
 */
export async function openJournal(folder: string, wanted: Layout): Promise<{ layout: Layout; chunks: Chunk[] }> {
  const journal = join(folder, 'journal')
  const text = await guarded(folder, async () => {
    await mkdir(folder, { recursive: true })
    return readFile(journal, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      throw error
    })
  })
  let layout: Layout | null = null
  const chunks: Chunk[] = []
  let valid = 0
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n', valid)) {
    const value = parseJournalLine(text.slice(valid, end))
    if (value === undefined) break
    if (layout === null) {
      const found = value as Layout
      if (found.format !== 1 || found.kind !== wanted.kind || found.seed !== wanted.seed) break
      layout = found
    } else chunks.push({ ...(value as StoredChunk), slabs: [], heldBytes: 0 })
    valid = end + 1
  }
  await guarded(folder, async () => {
    if (layout === null) await writeFile(journal, journalLine(wanted))
    else await truncate(journal, Buffer.byteLength(text.slice(0, valid)))
    const kept = new Set(chunks.map((chunk) => chunk.file))
    for (const name of await readdir(folder))
      if (name.endsWith('.run') && !kept.has(name)) await rm(join(folder, name), { force: true })
  })
  return { layout: layout ?? wanted, chunks }
}

export async function appendToJournal(folder: string, chunk: Chunk): Promise<void> {
  await guarded(folder, () => appendFile(join(folder, 'journal'), journalLine(storedOf(chunk))))
}

/** Replaces the journal as a whole. */
export async function writeJournal(folder: string, layout: Layout, chunks: readonly Chunk[]): Promise<void> {
  const lines = chunks.map((chunk) => journalLine(storedOf(chunk)))
  await guarded(folder, async () => {
    await writeFile(join(folder, 'journal.new'), journalLine(layout) + lines.join(''))
    await rename(join(folder, 'journal.new'), join(folder, 'journal'))
  })
}
