import { z } from 'zod'
import { tagSchema } from '../../../schemas/pointer.ts'
import type { Lease, LeaseStore } from '../ports.ts'
import { parseLease, unreadableLease } from '../unreadable-lease.ts'
import { absentAs, type DurableFiles } from './files.ts'

const leaseFileSchema = z.object({
  id: z.string(),
  tag: tagSchema,
  kind: z.enum(['reader', 'build']),
  expiresAt: z.iso.datetime(),
})

/**
 * An expired lease counts no more, but its file stays this long: a holder that renews late replaces it, and removing what was
 * just renewed would be worse than a file too many.
 */
const REMOVE_AFTER_MS = 60_000

/** One file a lease, `leases/<id>`. The store's clock is this machine's. */
export class FolderLeases implements LeaseStore {
  readonly #files: DurableFiles

  constructor(files: DurableFiles) {
    this.#files = files
  }

  put(lease: { id: string; tag: string; kind: Lease['kind']; ttlMs: number }): Promise<void> {
    const { id, tag, kind } = lease
    const body = JSON.stringify({ id, tag, kind, expiresAt: new Date(Date.now() + lease.ttlMs).toISOString() })
    return this.#files.run('writing a lease', async () => {
      await this.#files.createFolder(this.#files.path('leases'))
      await this.#files.replace(this.#path(id), Buffer.from(body))
    })
  }

  drop(id: string): Promise<void> {
    return this.#files.run('dropping a lease', () => this.#files.remove(this.#path(id)))
  }

  list(begin = ''): Promise<Lease[]> {
    return this.#files.run('listing leases', async () => {
      const leases: Lease[] = []
      const now = Date.now()
      for (const name of await this.#files.list(this.#files.path('leases'))) {
        if (!name.startsWith(encodeURIComponent(begin))) continue
        const path = this.#files.path('leases', name)
        const lease = await this.#read(name, path)
        if (lease === null) continue
        const expiresAtMs = lease.expiresAt.getTime()
        if (expiresAtMs > now) leases.push(lease)
        else if (expiresAtMs < now - REMOVE_AFTER_MS) await this.#files.fs.rm(path, { recursive: true, force: true })
      }
      return leases
    })
  }

  /** Null when it is gone. */
  async #read(name: string, path: string): Promise<Lease | null> {
    const stat = await this.#files.fs.stat(path).catch(absentAs(null))
    if (stat === null) return null
    const bytes = stat.isFile() ? await this.#files.read(path) : Buffer.alloc(0)
    if (bytes === null) return null
    const lease = parseLease(leaseFileSchema, bytes)
    if (lease === null) return unreadableLease(name, stat.mtime)
    return { ...lease, expiresAt: new Date(lease.expiresAt) }
  }

  #path(id: string): string {
    return this.#files.path('leases', encodeURIComponent(id))
  }
}
