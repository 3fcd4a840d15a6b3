import pg, { type ClientBase } from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import type { EntryOp, EntrySink } from '../snapshot/entry.ts'

const HEADER_BYTES = 19
const TRAILER = -1
/** i32 length and int2 of a leading op field. */
const OP_FIELD_BYTES = 6

/**
 * Runs `copy (select …) to stdout (format binary)` and gives each tuple to the sink as it lies in the socket's buffer. With `op` undefined
 * the tuple's first field is the op (int2), else all entries have that op. What follows is the entry as src/snapshot/entry.ts describes it.
 * Returns the number of entries. When `signal` aborts, the connection is closed: nothing else stops a COPY.
 */
export async function copyEntries(
  client: ClientBase,
  select: string,
  op: EntryOp | undefined,
  sink: EntrySink,
  signal: AbortSignal,
): Promise<number> {
  signal.throwIfAborted()
  const stream = client.query(copyTo(`copy (${select}) to stdout (format binary)`))
  const abort = () => {
    hangUp(client)
    stream.destroy(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)))
  }
  signal.addEventListener('abort', abort, { once: true })
  const tuples = new Tuples(op, sink)
  let done = false
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      tuples.push(chunk)
      const ready = sink.ready()
      if (ready !== undefined) await ready
    }
    done = true
  } catch (error) {
    // After an error of PostgreSQL's the connection is fine; after one of the sink's it is in the middle of a COPY.
    if (error instanceof pg.DatabaseError) done = true
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
    if (!done) hangUp(client)
  }
  return tuples.count
}

/** Closes the connection of a COPY that nobody reads to its end. */
function hangUp(client: ClientBase): void {
  client.on('error', () => undefined)
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
  connection.stream.destroy()
}

/** Cuts the chunks of a binary COPY into tuples. A tuple over many chunks is put together once, when its length is known. */
class Tuples {
  count = 0
  readonly #op: EntryOp | undefined
  readonly #sink: EntrySink
  #parts: Buffer[] = []
  #held = 0
  /** Bytes that must be there before it is worth looking again. */
  #need = HEADER_BYTES
  #atHeader = true

  constructor(op: EntryOp | undefined, sink: EntrySink) {
    this.#op = op
    this.#sink = sink
  }

  push(chunk: Buffer): void {
    this.#parts.push(chunk)
    this.#held += chunk.length
    if (this.#held < this.#need) return
    const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#held)
    const at = this.#cut(bytes)
    this.#held = bytes.length - at
    this.#parts = this.#held > 0 ? [bytes.subarray(at)] : []
  }

  /** Gives all whole tuples to the sink; returns where the first that is not whole begins, and notes what it needs. */
  #cut(bytes: Buffer): number {
    let at = this.#atHeader ? HEADER_BYTES : 0
    this.#atHeader = false
    const entryAt = this.#op === undefined ? OP_FIELD_BYTES : 0
    for (;;) {
      let end = at + 2
      if (end > bytes.length) return this.#wait(at, end)
      const fields = bytes.readInt16BE(at)
      for (let field = 0; field < fields; field++) {
        if (end + 4 > bytes.length) return this.#wait(at, end + 4)
        const length = bytes.readInt32BE(end)
        end += length > 0 ? 4 + length : 4
      }
      if (end > bytes.length) return this.#wait(at, end)
      if (fields !== TRAILER) {
        const start = at + 2 + entryAt
        const op = this.#op ?? (bytes.readInt16BE(at + 6) as EntryOp)
        this.#sink.entry(op, bytes, start, end, start + 4, start + 4 + bytes.readInt32BE(start))
        this.count++
      }
      at = end
    }
  }

  #wait(at: number, end: number): number {
    this.#need = end - at
    return at
  }
}
