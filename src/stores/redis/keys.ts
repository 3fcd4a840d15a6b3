/** Names of a dataset's keys. All that scripts touch lies in one slot, that of `{prefix:dataset}`; blocks are spread over all. */
export class RedisKeys {
  /** Hash: r(evision), v(alue), i (run_id), m(aster_replid). */
  readonly pointer: string
  /** Channel that tells of changes of the pointer. */
  readonly channel: string
  /** Hash: generation → "upto begunAtMs". */
  readonly journal: string
  /** Hash: tag → manifest. */
  readonly manifests: string
  /** Hash: lease id → "expiresAtMs tag kind". */
  readonly leases: string
  /** Begins the names of the hashes, one for each watch: "side readerId" → report. */
  readonly counters: string
  /** Written to have something to WAIT for. */
  readonly settle: string
  readonly probe: string
  readonly #blocks: string
  readonly #generations = new Map<string, string>()

  constructor(prefix: string, dataset: string) {
    const slot = `{${prefix}:${dataset}}`
    this.pointer = `${slot}:p`
    this.channel = `${slot}:c`
    this.journal = `${slot}:j`
    this.manifests = `${slot}:m`
    this.leases = `${slot}:l`
    this.counters = `${slot}:n:`
    this.settle = `${slot}:w`
    this.probe = `${slot}:check`
    this.#blocks = `${prefix}:${dataset}:`
  }

  /** `sf:shop:` + 22 characters of the generation + the object's number: nothing between them, memory is paid by the byte. */
  object(generation: string, number: number): string {
    return this.#generation(generation) + number.toString(36)
  }

  #generation(generation: string): string {
    const known = this.#generations.get(generation)
    if (known !== undefined) return known
    const prefix = this.#blocks + Buffer.from(generation, 'hex').toString('base64url')
    // A version draws on few generations; 256 strings are no memory.
    if (this.#generations.size >= 256) this.#generations.clear()
    this.#generations.set(generation, prefix)
    return prefix
  }
}
