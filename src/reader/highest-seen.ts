import type { Pointer, VersionRef } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'
import { compareEpoch, formatEpoch } from '../core/pointer.ts'
import type { Source } from './source.ts'

/** The pointer of the highest epoch that was read anywhere, also when its version could not be opened; and when. It never falls. */
export class HighestSeen {
  readonly #dataset: string
  #seen: { pointer: Pointer; at: number } | null = null

  constructor(dataset: string) {
    this.#dataset = dataset
  }

  get isNone(): boolean {
    return this.#seen === null
  }

  see(pointer: Pointer): void {
    if (!this.isAbove(pointer)) this.#seen = { pointer, at: performance.now() }
  }

  isAbove(pointer: Pointer | undefined): boolean {
    return pointer !== undefined && this.#seen !== null && compareEpoch(pointer.epoch, this.#seen.pointer.epoch) < 0
  }

  isSince(time: number): boolean {
    return this.#seen !== null && this.#seen.at >= time
  }

  /** Never a version that readers were taken back from, as far as was seen. */
  mayServeBehind(source: Source, named: VersionRef): boolean {
    if (this.#seen?.pointer.quarantined.includes(named.tag)) return false
    return !source.isDamaged(named, performance.now())
  }

  /** Why a pointer below it is not followed. */
  refusal(source: Source, pointer: Pointer): SnapflipError {
    const epoch = formatEpoch(pointer.epoch)
    const seen = formatEpoch((this.#seen?.pointer ?? pointer).epoch)
    return new SnapflipError(
      'READER_STALE',
      `Pointer of ${this.#dataset} in ${source.store.url} is at epoch ${epoch}, below ${seen} that this reader has seen: ` +
        'the store is behind another one, or an acknowledged flip was undone (failover, restore). ' +
        'Answers are stale until the pointer has been set again.',
      { dataset: this.#dataset, store: source.store.url, epoch, seen },
    )
  }
}
