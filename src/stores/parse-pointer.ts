import { type Pointer, pointerSchema } from '../../schemas/pointer.ts'
import { SnapflipError } from '../core/errors.ts'

/** Parses what a store holds as the pointer. `where` names it in the message. */
export function parsePointer(value: unknown, where: string): Pointer {
  const parsed = pointerSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new SnapflipError(
    'CORRUPT',
    `Pointer at ${where} does not parse (${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}), expected format 1. ` +
      'Something other than snapflip wrote it, or a newer snapflip.',
    { where },
  )
}

/** JSON of a store, with the place named when it does not parse. */
export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new SnapflipError('CORRUPT', `${where} is not JSON, expected what snapflip wrote there.`, { where }, cause)
  }
}
