import { SnapflipError } from '../core/errors.ts'

/** Whose bytes are being read: named in every CORRUPT. `tag` where it is known. */
export interface Where {
  dataset: string
  index: string
  tag?: string
}

/** `object` names what is corrupt, such as "block 12" or "location page 256". */
export function corrupt(where: Where, object: string, expected: string, found: string, cause?: unknown): SnapflipError {
  const version = where.tag === undefined ? '' : ` of ${where.tag}`
  return new SnapflipError(
    'CORRUPT',
    `${object} of index ${where.index}${version} in ${where.dataset} is corrupt: expected ${expected}, found ${found}. ` +
      `Roll back to another version, then run: snapflip verify ${where.dataset}${where.tag === undefined ? '' : ` ${where.tag}`}`,
    {
      dataset: where.dataset,
      index: where.index,
      ...(where.tag === undefined ? {} : { tag: where.tag }),
      object,
      expected,
      found,
    },
    cause,
  )
}
