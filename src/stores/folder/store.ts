import { randomUUID } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Store } from '../ports.ts'
import { FolderCounters } from './counters.ts'
import { FolderData } from './data.ts'
import { absentAs, DurableFiles, type FileSystem } from './files.ts'
import { FolderLeases } from './leases.ts'
import { FolderPointer } from './pointer.ts'

/** A store in a folder of one machine: `file:./versions`, relative to the working directory, or `file:///srv/versions`. */
export function openFolderStore(url: string, dataset: string, fs?: FileSystem): Store {
  const folder = url.startsWith('file://') ? fileURLToPath(url) : resolve(decodeURIComponent(url.slice('file:'.length)))
  const shown = `file:${folder}`
  const files = new DurableFiles(resolve(folder, dataset), shown, fs)
  const data = new FolderData(files)
  return {
    url: shown,
    data,
    pointer: new FolderPointer(files),
    leases: new FolderLeases(files),
    counters: new FolderCounters(files),
    check: () => checkFolder(files),
    freeBytes: () => files.run('asking for free space', () => freeBytes(files)),
    close: () => data.close(),
  }
}

/** Writes, links, fsyncs and removes a file, as every later write does. */
function checkFolder(files: DurableFiles): Promise<void> {
  return files.run('checking that it can be written', async () => {
    const probe = files.path('tmp', `probe-${randomUUID()}`)
    await files.createFolder(files.path('tmp'))
    await files.create(probe, [Buffer.from('probe')])
    await files.read(probe)
    await files.remove(probe)
  })
}

async function freeBytes(files: DurableFiles): Promise<number> {
  // The folder may not be there yet; the one above it is on the same file system, or becomes it.
  for (let folder = files.root; ; folder = dirname(folder)) {
    const stat = await files.fs.statfs(folder).catch(absentAs(null))
    if (stat !== null) return Number(stat.bavail) * Number(stat.bsize)
    if (folder === dirname(folder)) throw new Error(`No folder above ${files.root} exists.`)
  }
}
