import type { Lease, LeaseStore } from '../ports.ts'
import { LEASE_TTL_MAX_MS } from '../unreadable-lease.ts'
import type { RedisConnection } from './connection.ts'
import type { RedisKeys } from './keys.ts'
import { LIST_LEASES, PUT_LEASE, UNREADABLE } from './scripts.ts'

/** Leases as fields of one hash, by the server's clock. */
export class RedisLeases implements LeaseStore {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async put(lease: { id: string; tag: string; kind: Lease['kind']; ttlMs: number }): Promise<void> {
    await this.#connection.run('writing a lease', () =>
      this.#connection.redis.eval(PUT_LEASE, 1, this.#keys.leases, lease.id, lease.tag, lease.kind, lease.ttlMs),
    )
  }

  async drop(id: string): Promise<void> {
    await this.#connection.run('dropping a lease', () => this.#connection.redis.hdel(this.#keys.leases, id))
  }

  list(begin = ''): Promise<Lease[]> {
    return this.#connection.run('listing leases', async () => {
      const { redis } = this.#connection
      const flat = (await redis.eval(LIST_LEASES, 1, this.#keys.leases, LEASE_TTL_MAX_MS, begin)) as string[]
      const leases: Lease[] = []
      for (let index = 0; index + 1 < flat.length; index += 2) {
        const [expiresAtMs = '', tag = '', kind] = (flat[index + 1] as string).split(' ')
        leases.push({
          id: flat[index] as string,
          tag: tag === UNREADABLE ? null : tag,
          kind: kind === 'build' ? 'build' : 'reader',
          expiresAt: new Date(Number(expiresAtMs)),
        })
      }
      return leases
    })
  }
}
