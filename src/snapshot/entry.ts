/**
 * An entry is one (key, value) of a unique index or one (key, order, value) of a `many` index, as bytes:
 *
 *     unique:  i32 keyLength, key, i32 valueLength, value
 *     many:    i32 keyLength, key, i32 orderLength, order, i32 valueLength, value      (big-endian)
 *
 * These are the fields of a PostgreSQL binary COPY tuple as they come over the wire, so an entry is copied once, from the
 * socket's buffer into its run, and never becomes a JavaScript object on the way.
 */

/** What an entry does to the version: ADD and REMOVE are order-free multiset operations; SET replaces whatever the key had (events). */
export const ADD = 1
export const REMOVE = -1
export const SET = 0
export type EntryOp = typeof ADD | typeof REMOVE | typeof SET

/** Takes entries as a source reads them. */
export interface EntrySink {
  /**
   * Synchronous, once per entry. `bytes[start, end)` is the entry, `bytes[keyStart, keyEnd)` its key; valid only during the call.
   * A SET whose value length is -1 deletes the key.
   */
  entry(op: EntryOp, bytes: Buffer, start: number, end: number, keyStart: number, keyEnd: number): void
  /** Called between chunks: when it returns a promise, the source waits for it (back-pressure). */
  ready(): Promise<void> | undefined
}

/** Something that can be read once into a sink: a range of a table in one snapshot, or a change window. */
export interface EntrySource {
  read(sink: EntrySink, signal: AbortSignal): Promise<void>
}

/** Joins the parts of a key. Injective for a fixed number of parts, since PostgreSQL text holds no zero byte. */
export function encodeKey(parts: readonly string[]): Buffer {
  return Buffer.from(parts.join('\0'), 'utf8')
}
