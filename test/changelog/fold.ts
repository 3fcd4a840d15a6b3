import type { Client, ClientBase } from 'pg'
import pg from 'pg'
import type { IndexDefinition, TableIndex } from '../../schemas/config.ts'
import type { Watermark } from '../../schemas/manifest.ts'
import { attach } from '../../src/changelog/capture.ts'
import { resolveSource } from '../../src/changelog/definition.ts'
import { scanSource } from '../../src/changelog/scan.ts'
import type { Source } from '../../src/changelog/source.ts'
import { inWatermark } from '../../src/changelog/watermark.ts'
import { windowSource } from '../../src/changelog/window.ts'
import { type EntryOp, type EntrySink, type EntrySource, SET } from '../../src/snapshot/entry.ts'
import type { TestDatabase } from '../support/services.ts'

/** The model of an index: how often each entry (its bytes as latin1) is in it, without order. */
export class Fold implements EntrySink {
  readonly counts = new Map<string, number>()
  /** For SET: the entry that each key has. */
  readonly byKey = new Map<string, string>()
  entries = 0

  entry(op: EntryOp, bytes: Buffer, start: number, end: number, keyStart: number, keyEnd: number): void {
    this.entries++
    const text = bytes.toString('latin1', start, end)
    if (op !== SET) {
      this.#add(text, op)
      if (op === 1) this.byKey.set(bytes.toString('latin1', keyStart, keyEnd), text)
      return
    }
    const key = bytes.toString('latin1', keyStart, keyEnd)
    const former = this.byKey.get(key)
    if (former !== undefined) this.#add(former, -1)
    this.byKey.delete(key)
    if (bytes.readInt32BE(keyEnd) === -1) return
    this.byKey.set(key, text)
    this.#add(text, 1)
  }

  ready(): undefined {
    return undefined
  }

  #add(text: string, by: number): void {
    const count = (this.counts.get(text) ?? 0) + by
    if (count === 0) this.counts.delete(text)
    else this.counts.set(text, count)
  }

  /** Sorted, for comparing; a negative count is an entry removed that was not there. */
  list(): string[] {
    return [...this.counts].map(([text, count]) => `${count} ${text}`).sort()
  }

  /** The values as JSON, for summing up. */
  *values(): Generator<Record<string, unknown>> {
    for (const [text, count] of this.counts) {
      const bytes = Buffer.from(text, 'latin1')
      const keyLength = bytes.readInt32BE(0)
      for (let n = 0; n < count; n++) yield JSON.parse(bytes.toString('utf8', keyLength + 8)) as Record<string, unknown>
    }
  }
}

export function copy(fold: Fold): Fold {
  const twin = new Fold()
  for (const [text, count] of fold.counts) twin.counts.set(text, count)
  for (const [key, text] of fold.byKey) twin.byKey.set(key, text)
  return twin
}

const never = new AbortController().signal

export async function read(source: EntrySource, into = new Fold()): Promise<Fold> {
  await source.read(into, never)
  return into
}

export async function connect(database: TestDatabase): Promise<Client> {
  const client = new pg.Client({ connectionString: database.url })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** A definition as people write it: defaults left out. */
type Definition = { events: true } | (Partial<TableIndex> & Pick<TableIndex, 'from' | 'key' | 'value'>)

export function resolve(client: ClientBase, definition: Definition, index = 'index'): Promise<Source> {
  const defaults = { many: false, capture: 'triggers', keyBytesMax: 512, valueBytesMax: 1 << 20 }
  return resolveSource(client, 'shop', index, { ...defaults, ...definition } as IndexDefinition)
}

export async function resolveAndAttach(client: ClientBase, definition: Definition): Promise<Source> {
  const source = await resolve(client, definition)
  await attach(client, [source])
  return source
}

export interface Cut {
  watermark: Watermark
  /** What the source holds in the watermark's own snapshot, for each source. */
  truth: Fold[]
}

export function cut(client: ClientBase, sources: readonly Source[]): Promise<Cut> {
  return inWatermark(client, sources, 'version', async (watermark) => {
    const truth: Fold[] = []
    for (const source of sources) truth.push(await read(scanSource(client, source)))
    return { watermark, truth }
  })
}

/** Folds the window between two cuts into the first one's truth. */
export function foldBetween(client: ClientBase, source: Source, n: number, from: Cut, to: Cut): Promise<Fold> {
  return read(
    windowSource(client, source, { from: from.watermark, to: to.watermark.snapshot }),
    copy(from.truth[n] as Fold),
  )
}
