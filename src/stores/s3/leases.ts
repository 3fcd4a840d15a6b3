import { z } from 'zod'
import { tagSchema } from '../../../schemas/pointer.ts'
import type { Lease, LeaseStore } from '../ports.ts'
import { forEachBounded } from '../ranges.ts'
import { parseLease, unreadableLease } from '../unreadable-lease.ts'
import type { S3Bucket } from './bucket.ts'

const leaseObjectSchema = z.object({
  id: z.string(),
  tag: tagSchema,
  kind: z.enum(['reader', 'build']),
  ttlMs: z.int().positive(),
})

const READS_MAX = 8
/** LastModified and Date tell whole seconds; a lease is taken for alive until it is certainly over. */
const CLOCK_GRAIN_MS = 1_000
/**
 * An expired lease counts no more, but its object stays this long: a holder that renews late overwrites it, and deleting what was
 * just renewed would be worse than an object too many.
 */
const REMOVE_AFTER_MS = 60_000

/** One object a lease, `leases/<id>`; it runs from when the server says it was written, by the server's clock. */
export class S3Leases implements LeaseStore {
  readonly #bucket: S3Bucket

  constructor(bucket: S3Bucket) {
    this.#bucket = bucket
  }

  async put(lease: { id: string; tag: string; kind: Lease['kind']; ttlMs: number }): Promise<void> {
    const { id, tag, kind, ttlMs } = lease
    await this.#bucket.put(leaseName(id), Buffer.from(JSON.stringify({ id, tag, kind, ttlMs })), null)
  }

  drop(id: string): Promise<void> {
    return this.#bucket.delete(leaseName(id))
  }

  async list(begin = ''): Promise<Lease[]> {
    const { objects, now } = await this.#bucket.list(leaseName(begin))
    const leases: Lease[] = []
    await forEachBounded(objects, READS_MAX, async ({ name, modifiedAt }) => {
      const found = await this.#bucket.get(name)
      if (found === null) return
      const lease = leaseOf(name, found.bytes, modifiedAt)
      if (lease.expiresAt > now) leases.push(lease)
      else if (lease.expiresAt.getTime() < now.getTime() - REMOVE_AFTER_MS) await this.#bucket.delete(name)
    })
    return leases
  }
}

function leaseOf(name: string, bytes: Uint8Array, modifiedAt: Date): Lease {
  const found = parseLease(leaseObjectSchema, bytes)
  if (found === null) return unreadableLease(name, modifiedAt)
  const { ttlMs, ...lease } = found
  return { ...lease, expiresAt: new Date(modifiedAt.getTime() + ttlMs + CLOCK_GRAIN_MS) }
}

function leaseName(id: string): string {
  return `leases/${encodeURIComponent(id)}`
}
