import { randomUUID } from 'node:crypto'
import type { Pointer } from '../../../schemas/pointer.ts'
import { SnapflipError } from '../../core/errors.ts'
import { parseJson, parsePointer } from '../parse-pointer.ts'
import type { PointerRead, PointerStore } from '../ports.ts'
import { pollPointer } from '../watch-pointer.ts'
import type { S3Bucket } from './bucket.ts'

const NAME = 'pointer.json'

/**
 * The pointer as one object, `{"revision": …, "pointer": …}`, changed under If-Match. Each write draws a new revision, so that
 * equal pointers never have equal ETags, and a write whose reply was lost knows its own when it reads it back.
 */
export class S3Pointer implements PointerStore {
  readonly #bucket: S3Bucket

  constructor(bucket: S3Bucket) {
    this.#bucket = bucket
  }

  async read(): Promise<PointerRead | null> {
    const found = await this.#read()
    return found === null ? null : { pointer: found.pointer, token: found.token }
  }

  async swap(token: string | null, next: Pointer): Promise<boolean> {
    const revision = randomUUID()
    const body = Buffer.from(`${JSON.stringify({ revision, pointer: next }, null, 2)}\n`)
    const condition = token === null ? ({ ifAbsent: true } as const) : { ifMatch: token }
    const outcome = await this.#bucket.put(NAME, body, condition, { once: true })
    if (typeof outcome === 'object') return true
    // 412 after a lost reply is this write's own success; 409 says nothing at all. Both are settled by reading.
    if ((await this.#read())?.revision === revision) return true
    if (outcome === 'refused') return false
    throw new SnapflipError(
      'STORE_UNREACHABLE',
      `${this.#bucket.url} answered a pointer write with 409, expected 200 or 412. Read the pointer, then try again.`,
      { store: this.#bucket.url },
    )
  }

  watch(options: Parameters<PointerStore['watch']>[0]): void {
    pollPointer(() => this.read(), options)
  }

  async isBound(): Promise<boolean> {
    return true
  }

  async rebind(): Promise<boolean> {
    throw new SnapflipError('INTERNAL', 'A bucket is never rebound, expected a Redis store.', {
      store: this.#bucket.url,
    })
  }

  async #read(): Promise<(PointerRead & { revision: unknown }) | null> {
    const found = await this.#bucket.get(NAME)
    if (found === null) return null
    const where = `${this.#bucket.url} object ${NAME}`
    const { revision, pointer } = Object(parseJson(found.bytes.toString(), where)) as Record<string, unknown>
    return { revision, pointer: parsePointer(pointer, where), token: found.etag }
  }
}
