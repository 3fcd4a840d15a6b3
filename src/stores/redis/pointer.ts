import { randomUUID } from 'node:crypto'
import type { Pointer } from '../../../schemas/pointer.ts'
import { SnapflipError } from '../../core/errors.ts'
import { parseJson, parsePointer } from '../parse-pointer.ts'
import type { PointerRead, PointerStore } from '../ports.ts'
import { pollPointer } from '../watch-pointer.ts'
import type { RedisConnection } from './connection.ts'
import type { RedisKeys } from './keys.ts'
import { IS_BOUND, REBIND_POINTER, SWAP_POINTER } from './scripts.ts'

/** The pointer as a hash; each write draws a new revision, so that no token ever comes back. */
export class RedisPointer implements PointerStore {
  readonly #connection: RedisConnection
  readonly #keys: RedisKeys
  /** A write was made, but replicas did not say so: nobody here may read it as done before they have. */
  #owedToReplicas = false

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  read(): Promise<PointerRead | null> {
    return this.#connection.run('reading the pointer', async () => {
      if (this.#owedToReplicas) await this.#settle()
      const [token, text] = await this.#connection.redis.hmget(this.#keys.pointer, 'r', 'v')
      if (typeof token !== 'string' || typeof text !== 'string') return null
      const where = `${this.#connection.url} key ${this.#keys.pointer}`
      return { token, pointer: parsePointer(parseJson(text, where), where) }
    })
  }

  async swap(token: string | null, next: Pointer): Promise<boolean> {
    const reply = await this.#write('writing the pointer', SWAP_POINTER, [token ?? '', ...this.#revision(next)])
    if (reply[0] === 'rebound') throw this.#rebound(reply.slice(1))
    return reply[0] === 'set'
  }

  isBound(): Promise<boolean> {
    return this.#connection.run('asking whether the pointer is bound', async () => {
      return (await this.#connection.redis.eval(IS_BOUND, 1, this.#keys.pointer)) === 1
    })
  }

  async rebind(token: string, next: Pointer): Promise<boolean> {
    const reply = await this.#write('rebinding the pointer', REBIND_POINTER, [token, ...this.#revision(next)])
    return reply[0] === 'set'
  }

  watch(options: Parameters<PointerStore['watch']>[0]): void {
    const { wake } = pollPointer(() => this.read(), options)
    this.#connection.subscribe(this.#keys.channel, options.signal, wake, options.onError)
  }

  #revision(next: Pointer): string[] {
    return [randomUUID(), JSON.stringify(next), this.#keys.channel]
  }

  #write(doing: string, script: string, args: string[]): Promise<string[]> {
    return this.#connection.run(doing, async () => {
      const reply = (await this.#connection.redis.eval(script, 1, this.#keys.pointer, ...args)) as string[]
      if (reply[0] === 'set') await this.#settle()
      return reply
    })
  }

  async #settle(): Promise<void> {
    this.#owedToReplicas = true
    await this.#connection.settleReplicas(this.#keys.settle)
    this.#owedToReplicas = false
  }

  #rebound([boundRun = '', boundRepl = '', run = '', repl = '']: string[]): SnapflipError {
    const url = this.#connection.url
    return new SnapflipError(
      'STORE_REBOUND',
      `Pointer in ${url} was written by server ${boundRun.slice(0, 8)} (replication ${boundRepl.slice(0, 8)}), but ` +
        `${run.slice(0, 8)} (${repl.slice(0, 8)}) answers: it restarted or failed over, and what was acknowledged may be undone. ` +
        'Nothing was written; a worker, refresh or rollback that looks next checks the active version and binds the pointer anew.',
      { store: url, boundRunId: boundRun, boundReplId: boundRepl, runId: run, replId: repl },
    )
  }
}
