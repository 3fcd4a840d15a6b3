import { SnapflipError } from '../core/errors.ts'

const LISTED_MAX = 20

/** Lists those that there are. */
export function unknownVersion(dataset: string, tag: string, known: readonly string[]): SnapflipError {
  const listed = known.toSorted().slice(-LISTED_MAX)
  return new SnapflipError(
    'UNKNOWN_VERSION',
    `Expected the tag of a version of ${dataset} (${listed.join(', ') || 'there is none yet'}), found ${JSON.stringify(tag)}. ` +
      `\`snapflip versions ${dataset}\` lists them all.`,
    { dataset, tag, known: listed },
  )
}
