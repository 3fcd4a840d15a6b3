import { SnapflipError } from '../core/errors.ts'

/** In the place of a partition: records of all of them. */
export const UNPARTITIONED = -1

export interface Extent {
  partition: number
  offset: number
  length: number
  /** xxh64 of the extent, 16 hex digits. */
  checksum: string
}

export interface FinishedChunk {
  id: string
  /** Whatever the caller wanted to remember with it, such as the range and the snapshot. */
  note: unknown
  entries: number
  bytes: number
}

export interface StoredChunk extends FinishedChunk {
  file: string | null
  extents: Extent[]
}

export interface Chunk extends StoredChunk {
  /** In memory, where it has no file. */
  slabs: Buffer[]
  heldBytes: number
}

/** A full temporary folder is its own error: it names the folder to make room in. */
export async function guarded<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new SnapflipError(
        'STORE_FULL',
        `The folder ${folder} for temporary files is full: expected room for the rows of this build, found none. Free some, or start the worker with --work-dir on a larger disk.`,
        { folder },
        error,
      )
    throw error
  }
}
