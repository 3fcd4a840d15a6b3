import { BUILD_LEASES } from '../src/stores/build-leases.ts'
import type { Store } from '../src/stores/ports.ts'

/** Three renewals may be lost before the lease ends. */
const LEASE_TTL_MS = 60_000

/** Does work that reads a version, which is kept from being swept meanwhile. Retired already: the caller reads the pointer, and sees. `by` names the work, and no other. */
export async function whileLeased<T>(
  store: Store,
  { by, tag }: { by: string; tag: string },
  work: () => Promise<T>,
): Promise<T> {
  const lease = { id: `${BUILD_LEASES}${by}`, tag, kind: 'build', ttlMs: LEASE_TTL_MS } as const
  await store.leases.put(lease)
  const renewal = setInterval(() => {
    // A renewal that fails is tried again; a lease that ended is noticed when what was read is put to use.
    store.leases.put(lease).catch(() => undefined)
  }, LEASE_TTL_MS / 4)
  try {
    return await work()
  } finally {
    clearInterval(renewal)
    await store.leases.drop(lease.id)
  }
}
