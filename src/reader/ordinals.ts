import { tagSchema, type VersionRef } from '../../schemas/pointer.ts'
import { decodeManifest } from '../snapshot/manifest.ts'
import type { Source } from './source.ts'
import type { Serving } from './standing.ts'

/** Tags whose ordinals are remembered: also after their versions were deleted. */
const ORDINALS_MAX = 1000

/** Places of versions in the registry's order, by tag. A tag's text says nothing about it. */
export class Ordinals {
  readonly #dataset: string
  readonly #sources: readonly Source[]
  readonly #known = new Map<string, number>()

  constructor(dataset: string, sources: readonly Source[]) {
    this.#dataset = dataset
    this.#sources = sources
  }

  remember({ tag, ordinal }: Pick<VersionRef, 'tag' | 'ordinal'>): void {
    if (this.#known.size >= ORDINALS_MAX) this.#known.clear()
    this.#known.set(tag, ordinal)
  }

  /** Null when no store knows the tag. Throws why one did not answer. */
  async of(tag: string, { pointer }: Serving): Promise<number | null> {
    const { active, previous, candidate } = pointer
    for (const ref of [active, previous, candidate?.version]) if (ref?.tag === tag) return ref.ordinal
    const known = this.#known.get(tag)
    if (known !== undefined) return known
    if (!tagSchema.safeParse(tag).success) return null
    const asked = await Promise.allSettled(this.#sources.map((source) => source.data.readManifest(tag)))
    for (const answer of asked) {
      if (answer.status === 'rejected' || answer.value === null) continue
      const { ordinal } = decodeManifest(answer.value, { dataset: this.#dataset, tag })
      this.remember({ tag, ordinal })
      return ordinal
    }
    for (const answer of asked) if (answer.status === 'rejected') throw answer.reason
    return null
  }
}
