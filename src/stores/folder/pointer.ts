import { createHash } from 'node:crypto'
import type { Pointer } from '../../../schemas/pointer.ts'
import { SnapflipError } from '../../core/errors.ts'
import { parseJson, parsePointer } from '../parse-pointer.ts'
import type { PointerRead, PointerStore } from '../ports.ts'
import { pollPointer } from '../watch-pointer.ts'
import type { DurableFiles } from './files.ts'

/** Revisions behind the newest that stay, for readers between listing and opening, and for people who look. */
const REVISIONS_KEPT = 16
/** A reader that finds its revision gone was overtaken by REVISIONS_KEPT changes; that this happens again is a stuck disk. */
const READ_ATTEMPTS = 5

/**
 * The pointer as numbered revisions, `pointer/<n>.json`; the highest is the pointer. A change creates revision n+1 by a link that
 * fails if the name is taken, so the file system itself decides between writers. (A lock file decides only until its time-out: a
 * writer that was paused for longer goes on and overwrites; and a killed one makes the next rollback wait for it.)
 */
export class FolderPointer implements PointerStore {
  readonly #files: DurableFiles

  constructor(files: DurableFiles) {
    this.#files = files
  }

  read(): Promise<PointerRead | null> {
    return this.#files.run('reading the pointer', async () => {
      for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
        const newest = (await this.#revisions()).at(-1)
        if (newest === undefined) return null
        const path = this.#path(newest)
        const bytes = await this.#files.read(path)
        if (bytes === null) continue
        return { pointer: parsePointer(parseJson(bytes.toString(), path), path), token: tokenOf(newest, bytes) }
      }
      throw new SnapflipError(
        'STORE_UNREACHABLE',
        `Pointer in ${this.#files.url} changed ${READ_ATTEMPTS} times while it was read, expected it to stay. Try again.`,
        { store: this.#files.url },
      )
    })
  }

  swap(token: string | null, next: Pointer): Promise<boolean> {
    return this.#files.run('writing the pointer', async () => {
      const before = await this.read()
      if ((before?.token ?? null) !== token) return false
      await this.#files.createFolder(this.#files.path('pointer'))
      const revision = token === null ? 1 : revisionOf(token) + 1
      const bytes = Buffer.from(`${JSON.stringify(next, null, 2)}\n`)
      if (!(await this.#files.create(this.#path(revision), [bytes]))) return false
      const revisions = await this.#revisions()
      // A writer that was paused since its read may have filled a number that was passed and removed long ago. Nobody reads that
      // one; but when others came so far, it cannot be told from a number that was good and passed since.
      if ((revisions.at(-1) ?? revision) - revision >= REVISIONS_KEPT) {
        throw new SnapflipError(
          'STORE_UNREACHABLE',
          `Pointer in ${this.#files.url} changed ${REVISIONS_KEPT} times during a write, expected to see its outcome. Read it, then try again.`,
          { store: this.#files.url, revision },
        )
      }
      for (const old of revisions.slice(0, -REVISIONS_KEPT)) await this.#files.remove(this.#path(old))
      return true
    })
  }

  watch(options: Parameters<PointerStore['watch']>[0]): void {
    pollPointer(() => this.read(), options)
  }

  async isBound(): Promise<boolean> {
    return true
  }

  async rebind(): Promise<boolean> {
    throw new SnapflipError('INTERNAL', 'A folder is never rebound, expected a Redis store.', {
      store: this.#files.url,
    })
  }

  /** Ascending. */
  async #revisions(): Promise<number[]> {
    const names = await this.#files.list(this.#files.path('pointer'))
    return names
      .map((name) => /^(\d+)\.json$/.exec(name)?.[1])
      .filter((digits) => digits !== undefined)
      .map(Number)
      .sort((a, b) => a - b)
  }

  #path(revision: number): string {
    return this.#files.path('pointer', `${revision}.json`)
  }
}

function tokenOf(revision: number, bytes: Uint8Array): string {
  return `${revision}-${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}`
}

function revisionOf(token: string): number {
  return Number.parseInt(token, 10)
}
