import type { CounterReport } from '../../../schemas/counters.ts'
import { COUNTERS_KEPT_MS } from '../../core/counters.ts'
import { parseReport } from '../parse-report.ts'
import type { CounterStore } from '../ports.ts'
import type { RedisConnection } from './connection.ts'
import type { RedisKeys } from './keys.ts'

/** One hash a watch, a field for each reader and side; it ends when nobody has reported for as long as one is kept. */
export class RedisCounters implements CounterStore {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async put(report: CounterReport): Promise<void> {
    const { watchId, side, readerId } = report
    const key = this.#keys.counters + watchId
    await this.#connection.run('writing counters', async () => {
      // No script, which would need the right to read what others counted. In one write to the socket: nobody dies in between.
      this.#connection.cork()
      await Promise.all([
        this.#connection.redis.hset(key, `${side} ${readerId}`, JSON.stringify(report)),
        this.#connection.redis.pexpire(key, COUNTERS_KEPT_MS),
      ])
    })
  }

  async list(watchId: string): Promise<CounterReport[]> {
    const texts = await this.#connection.run('listing counters', () =>
      this.#connection.redis.hvals(this.#keys.counters + watchId),
    )
    return texts.map((text) => parseReport(text, watchId)).filter((report) => report !== null)
  }

  async drop(watchId: string): Promise<void> {
    await this.#connection.run('dropping counters', () => this.#connection.redis.unlink(this.#keys.counters + watchId))
  }

  async dropExpired(): Promise<void> {}
}
