import { randomUUID } from 'node:crypto'
import * as nodeFs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ErrorCode, isSnapflipError, SnapflipError } from '../../core/errors.ts'

/** What the folder store asks of a file system; tests put a failing one in its place. */
export type FileSystem = Pick<
  typeof nodeFs,
  'link' | 'mkdir' | 'open' | 'readFile' | 'readdir' | 'rename' | 'rm' | 'stat' | 'statfs' | 'unlink'
>

/** Left-overs of crashed writes are certainly dead after this long; a write takes seconds. */
const TEMPORARY_AGE_MAX_MS = 3_600_000

/**
 * Files that appear whole or not at all: written under a temporary name, fsynced, then linked to their own name, which fails if
 * that name is taken. The folder is fsynced too, or a power cut could take the name back.
 */
export class DurableFiles {
  readonly fs: FileSystem
  readonly root: string
  readonly url: string

  constructor(root: string, url: string, fs: FileSystem = nodeFs) {
    this.root = root
    this.url = url
    this.fs = fs
  }

  path(...names: string[]): string {
    return join(this.root, ...names)
  }

  /** Creates the file if absent; false when the name is taken. Its folder must exist. */
  async create(path: string, chunks: readonly Uint8Array[]): Promise<boolean> {
    const temporary = await this.#writeTemporary(chunks)
    try {
      await this.fs.link(temporary, path)
    } catch (error) {
      if (isFsError(error, 'EEXIST')) return false
      throw error
    } finally {
      await this.fs.unlink(temporary)
    }
    await this.syncFolder(dirname(path))
    return true
  }

  /** Creates or replaces the file. Its folder must exist. */
  async replace(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = await this.#writeTemporary([bytes])
    await this.fs.rename(temporary, path)
    await this.syncFolder(dirname(path))
  }

  /** Creates a folder and those above it, durably. */
  async createFolder(path: string): Promise<void> {
    const first = await this.fs.mkdir(path, { recursive: true })
    if (first === undefined) return
    for (let folder = path; folder.length >= first.length; folder = dirname(folder))
      await this.syncFolder(dirname(folder))
  }

  async syncFolder(path: string): Promise<void> {
    const folder = await this.fs.open(path, 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  /** Null when absent. */
  async read(path: string): Promise<Buffer | null> {
    return this.fs.readFile(path).catch(absentAs(null))
  }

  /** Names in a folder; none when it is absent. */
  async list(path: string): Promise<string[]> {
    return this.fs.readdir(path).catch(absentAs<string[]>([]))
  }

  async remove(path: string): Promise<void> {
    await this.fs.unlink(path).catch(absentAs(undefined))
  }

  /** Takes a folder out of sight in one step, then deletes it; a crash in between leaves it to `removeLeftOvers`. */
  async removeFolder(path: string): Promise<void> {
    await this.createFolder(this.path('tmp'))
    const grave = this.path('tmp', `dead-${randomUUID()}`)
    const moved = await this.fs.rename(path, grave).then(() => true, absentAs(false))
    if (moved) await this.fs.rm(grave, { recursive: true, force: true })
  }

  /** Deletes temporary files that no write can still be using. */
  async removeLeftOvers(): Promise<void> {
    for (const name of await this.list(this.path('tmp'))) {
      const path = this.path('tmp', name)
      const stat = await this.fs.stat(path).catch(absentAs(null))
      if (stat !== null && stat.mtimeMs < Date.now() - TEMPORARY_AGE_MAX_MS) {
        await this.fs.rm(path, { recursive: true, force: true })
      }
    }
  }

  async #writeTemporary(chunks: readonly Uint8Array[]): Promise<string> {
    await this.createFolder(this.path('tmp'))
    const path = this.path('tmp', randomUUID())
    const file = await this.fs.open(path, 'wx')
    try {
      for (let from = 0; from < chunks.length; from += CHUNKS_A_WRITE) {
        await writeWhole(file, chunks.slice(from, from + CHUNKS_A_WRITE))
      }
      await file.sync()
    } catch (error) {
      await file.close().catch(() => undefined)
      await this.fs.unlink(path).catch(() => undefined)
      throw error
    }
    await file.close()
    return path
  }

  /** Runs an operation; a failure of the file system becomes one of ours. */
  async run<T>(doing: string, operation: () => Promise<T>): Promise<T> {
    try {
      return await operation()
    } catch (error) {
      throw storeError(error, doing, this.url)
    }
  }
}

/** IOV_MAX of Linux: the most buffers one writev takes. */
const CHUNKS_A_WRITE = 1024

/** writev may write less than it was given (a nearly full disk); what is left is written again, and then fails with the reason. */
async function writeWhole(file: nodeFs.FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  const { bytesWritten } = await file.writev(chunks as Uint8Array[])
  let skip = bytesWritten
  for (const chunk of chunks) {
    if (skip >= chunk.length) {
      skip -= chunk.length
      continue
    }
    await file.writeFile(skip === 0 ? chunk : chunk.subarray(skip))
    skip = 0
  }
}

export function isFsError(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '')
}

/** For `catch`: an absent file or folder is this value; everything else is thrown on. */
export function absentAs<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (isFsError(error, 'ENOENT')) return value
    throw error
  }
}

function storeError(error: unknown, doing: string, url: string): unknown {
  if (isSnapflipError(error) || !(error instanceof Error)) return error
  const { code = '' } = error as NodeJS.ErrnoException
  const [ours, expected, hint] = reasonOf(code)
  return new SnapflipError(
    ours,
    `${url} failed while ${doing} (${code || error.message}), expected ${expected}. ${hint}`,
    { store: url, fsCode: code },
    error,
  )
}

function reasonOf(code: string): [ErrorCode, string, string] {
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return ['STORE_FULL', 'room for it', 'Free space on the disk or lower `keep`, then try again.']
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EISDIR':
    case 'ENAMETOOLONG':
    case 'ENOTSUP':
    case 'EXDEV':
      return [
        'STORE_UNSUITABLE',
        'a folder that can be written, with hard links',
        'Check its owner, mode and file system.',
      ]
    default:
      return ['STORE_UNREACHABLE', 'the file system to answer', 'Check the disk, then try again.']
  }
}
