import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { closedRefreshes } from '../src/registry/closed-refreshes.ts'
import type { Deps } from './deps.ts'

/**
 * The folder of runs of one attempt at a build: the one that an earlier attempt left on this machine, under another name. An attempt that was
 * only paused finds its folder gone: it cannot write into what its successor reads, nor add a chunk to the journal twice.
 */
export async function attemptFolder(
  deps: Deps,
  { refreshId, kind, attempt }: { refreshId: string; kind: 'first' | 'rebuild'; attempt: number },
): Promise<string> {
  const parent = join(deps.workDir, refreshId)
  const own = join(parent, `${kind}-${attempt}`)
  await mkdir(parent, { recursive: true })
  const earlier = (await readdir(parent))
    .filter((name) => name.startsWith(`${kind}-`))
    .map((name) => Number(name.slice(kind.length + 1)))
    .filter((number) => number < attempt)
    .sort((a, b) => b - a)
  for (const number of earlier) {
    const taken = await rename(join(parent, `${kind}-${number}`), own).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        // Gone: a later attempt took it. Ours is there: this attempt runs again, as after a reset of the workflow.
        if (error.code === 'ENOENT' || error.code === 'ENOTEMPTY' || error.code === 'EEXIST') return false
        throw error
      },
    )
    if (taken) break
  }
  return own
}

/** Removes what builds of closed refreshes left on this machine. Folders of another registry's refreshes stay: it may share the place. */
export async function removeFinishedWork(deps: Deps): Promise<void> {
  const names = await readdir(deps.workDir).catch(() => [])
  const ids = names.filter((name) => /^[0-9a-f-]{36}$/.test(name))
  if (ids.length === 0) return
  for (const refreshId of await closedRefreshes(deps.pool, ids)) {
    await rm(join(deps.workDir, refreshId), { recursive: true, force: true })
  }
}
