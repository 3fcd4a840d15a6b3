import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Runs `body` with a file system of its own that holds so much and no more. Linux, as root: elsewhere the test fails and says so. */
export async function onSmallDisk(size: string, body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'snapflip-disk-'))
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]).catch((cause: unknown) => {
      throw new Error(
        `Expected to mount a tmpfs of ${size} at ${folder}, found: ${cause}. A disk that runs full takes root on Linux (in a container: --cap-add SYS_ADMIN).`,
        { cause },
      )
    })
    try {
      await body(folder)
    } finally {
      await run('umount', ['-l', folder])
    }
  } finally {
    await rm(folder, { recursive: true })
  }
}
