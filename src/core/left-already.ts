import { SnapflipError } from './errors.ts'

/** How readers came to be where they are, as far as that is known. */
export interface Move {
  /** Null: the dataset's first flip. */
  from: string | null
  by: string
  at: string
  reason: string | null
}

/**
 * The refusal of a rollback whose version readers have left already. Two that ask for the same one (a start that waited for a worker and `--direct`
 * beside it, two operators, a person and a bake) take readers one version back, never two: further back goes who names where to.
 *
 * @param left what the rollback is to take readers from.
 * @param further where one from the active version would go; null: nobody knows.
 */
export function leftAlready({
  dataset,
  left,
  active,
  move,
  further,
}: Record<'dataset' | 'left' | 'active', string> & {
  move: Move | null
  further: string | null
}): SnapflipError {
  const how =
    move === null
      ? 'another flip came first'
      : `${move.by} took them there${move.from === null ? '' : ` from ${move.from}`} at ${move.at}${move.reason === null ? '' : ` (${move.reason})`}`
  const todo =
    further === null
      ? `name an older one with --to; \`snapflip versions ${dataset}\` lists what there is.`
      : `\`snapflip rollback ${dataset} --to ${further} --reason …\`.`
  return new SnapflipError(
    'CONFLICT',
    `Expected readers of ${dataset} on ${left}, to take them back from it, found them on ${active}: ${how}. Where ${active} is bad too: ${todo}`,
    { dataset, active, expected: left, ...move },
  )
}
