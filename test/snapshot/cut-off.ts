import type { Location } from '../../schemas/manifest.ts'
import type { DataStore } from '../../src/stores/ports.ts'

export const CUT_OFF = new Error('cut off')

/** Ends as a killed process would: one of its deletes gets half of what it was given, and nothing is done after it. */
export class CutOff implements DataStore {
  readonly layout
  readonly #real: DataStore
  #deletesLeft: number

  constructor(real: DataStore, deletesLeft: number) {
    this.#real = real
    this.layout = real.layout
    this.#deletesLeft = deletesLeft
  }

  begin = (generation: string) => this.#real.begin(generation)
  read = (locations: readonly Location[]) => this.#real.read(locations)
  putManifest = (tag: string, bytes: Uint8Array) => this.#real.putManifest(tag, bytes)
  readManifest = (tag: string) => this.#real.readManifest(tag)
  listManifests = () => this.#real.listManifests()
  deleteManifest = (tag: string) => this.#real.deleteManifest(tag)
  generations = () => this.#real.generations()

  async deleteUnits(locations: readonly Location[]): Promise<void> {
    const isLast = this.#deletesLeft-- <= 0
    await this.#real.deleteUnits(isLast ? locations.slice(0, locations.length >> 1) : locations)
    if (isLast) throw CUT_OFF
  }

  async deleteGeneration(generation: string): Promise<void> {
    if (this.#deletesLeft-- <= 0) throw CUT_OFF
    await this.#real.deleteGeneration(generation)
  }
}
