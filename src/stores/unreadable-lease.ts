import type { z } from 'zod'
import type { Lease } from './ports.ts'

/** The longest that a lease may be asked for: a timer's longest. */
export const LEASE_TTL_MAX_MS = 2 ** 31 - 1

/** What an object holds that should be a lease; null when it holds something else. */
export function parseLease<T>(schema: z.ZodType<T>, bytes: Uint8Array): T | null {
  try {
    return schema.safeParse(JSON.parse(Buffer.from(bytes).toString())).data ?? null
  } catch {
    return null
  }
}

/**
 * What lies among the leases and is none, half-written or a stranger's: it may be anybody's claim to any version, and is taken for one until
 * no lease can last that was written then. So it holds up retirement, but not for ever.
 */
export function unreadableLease(id: string, modifiedAt: Date): Lease {
  return { id, tag: null, kind: 'reader', expiresAt: new Date(modifiedAt.getTime() + LEASE_TTL_MAX_MS) }
}
