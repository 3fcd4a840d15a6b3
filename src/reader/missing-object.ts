import type { SnapflipError } from '../core/errors.ts'
import { corrupt, type Where } from '../snapshot/corrupt.ts'

/**
 * A version names an object that its store lacks. Never a miss: the version was retired meanwhile, or it is damaged. Which of them
 * it is, only the pointer can say, so this stays inside the reader until it has been asked.
 */
export class MissingObject extends Error {
  override readonly name = 'MissingObject'
  readonly where: Where
  readonly object: string

  constructor(where: Where, object: string) {
    super(`${object} of index ${where.index} in ${where.dataset} is missing`)
    this.where = where
    this.object = object
  }

  asCorrupt(): SnapflipError {
    return corrupt(this.where, this.object, 'its bytes', 'nothing, or fewer bytes than its parent says')
  }
}
