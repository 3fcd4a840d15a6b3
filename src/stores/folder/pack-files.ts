import type { FileHandle } from 'node:fs/promises'
import { absentAs, type DurableFiles } from './files.ts'

/** Well below the usual limit of 1024 descriptors a process, several stores open. */
const OPEN_MAX = 64
/** A descriptor keeps a deleted pack's bytes on the disk; idle ones are closed. */
const IDLE_MAX_MS = 60_000

interface OpenFile {
  handle: Promise<FileHandle | null>
  users: number
  usedAt: number
}

/** Open packs, the least recently used closed first; never one that is being read. */
export class PackFiles {
  readonly #files: DurableFiles
  /** Least recently used first: a Map keeps the order of insertion. */
  readonly #open = new Map<string, OpenFile>()

  constructor(files: DurableFiles) {
    this.#files = files
  }

  /** Up to `length` bytes from `offset`, fewer at the end of the file; null when the file is absent. */
  async read(path: string, offset: number, length: number): Promise<Buffer | null> {
    const file = this.#acquire(path)
    try {
      const handle = await file.handle
      if (handle === null) return null
      const bytes = Buffer.allocUnsafeSlow(length)
      let filled = 0
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, offset + filled)
        if (bytesRead === 0) break
        filled += bytesRead
      }
      return bytes.subarray(0, filled)
    } finally {
      file.users--
    }
  }

  /** Forgets a file that is about to be deleted. */
  async forget(belongs: (path: string) => boolean): Promise<void> {
    const found = [...this.#open].filter(([path]) => belongs(path))
    await Promise.all(found.map(([path, file]) => this.#close(path, file)))
  }

  close(): Promise<void> {
    return this.forget(() => true)
  }

  #acquire(path: string): OpenFile {
    const found = this.#open.get(path)
    const file = found ?? { handle: this.#openFile(path), users: 0, usedAt: 0 }
    file.users++
    file.usedAt = Date.now()
    this.#open.delete(path)
    this.#open.set(path, file)
    if (found === undefined) this.#evict()
    return file
  }

  async #openFile(path: string): Promise<FileHandle | null> {
    try {
      const handle = await this.#files.fs.open(path, 'r').catch(absentAs(null))
      if (handle === null) this.#open.delete(path)
      return handle
    } catch (error) {
      this.#open.delete(path)
      throw error
    }
  }

  #evict(): void {
    const idleSince = Date.now() - IDLE_MAX_MS
    for (const [path, file] of this.#open) {
      if (this.#open.size <= OPEN_MAX && file.usedAt >= idleSince) return
      // An open file closes by itself at the latest when the process ends; a failed close loses nothing that was read.
      if (file.users === 0) void this.#close(path, file).catch(() => undefined)
    }
  }

  async #close(path: string, file: OpenFile): Promise<void> {
    if (this.#open.get(path) === file) this.#open.delete(path)
    await (await file.handle.catch(() => null))?.close()
  }
}
