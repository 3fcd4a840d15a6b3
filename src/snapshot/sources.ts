import type { Location, Manifest } from '../../schemas/manifest.ts'

export type LiveSource = Manifest['sources'][number]

/** What a build adds to and takes from the live objects of each (generation, pack). Numbers may be negative. */
export interface SourceDelta {
  generation: string
  pack: number
  objects: number
  bytes: number
}

export function sourceName(source: { generation: string; pack: number }): string {
  return `${source.generation}/${source.pack}`
}

/** Counts live objects and bytes by where they lie. */
export class SourceTally {
  readonly #tally = new Map<string, SourceDelta>()
  /** The one counted last: a build's objects come in long rows from one source. */
  #last: SourceDelta | undefined

  count(location: Location, sign: 1 | -1): void {
    if (this.#last?.generation !== location.generation || this.#last.pack !== location.pack) {
      this.fold([{ generation: location.generation, pack: location.pack, objects: 0, bytes: 0 }])
      this.#last = this.#tally.get(sourceName(location)) as SourceDelta
    }
    this.#last.objects += sign
    this.#last.bytes += sign * location.length
  }

  fold(deltas: readonly SourceDelta[], sign: 1 | -1 = 1): void {
    for (const delta of deltas) {
      const name = sourceName(delta)
      const sum = this.#tally.get(name)
      if (sum === undefined)
        this.#tally.set(name, { ...delta, objects: sign * delta.objects, bytes: sign * delta.bytes })
      else {
        sum.objects += sign * delta.objects
        sum.bytes += sign * delta.bytes
      }
    }
  }

  deltas(): SourceDelta[] {
    return [...this.#tally.values()].filter((delta) => delta.objects !== 0 || delta.bytes !== 0)
  }
}
