import { InvalidArgumentError } from 'commander'
import type { Anchor } from '../../schemas/pointer.ts'

/** Of --anchor: length and last hash of the history at some moment. */
export function anchor(text: string): Anchor {
  const [, seq, hash = ''] = /^([1-9]\d{0,14}):([0-9a-f]{64})$/.exec(text) ?? []
  if (seq === undefined)
    throw new InvalidArgumentError(
      'Expected SEQ:HASH as `snapflip history verify` prints them, such as 812:9f…, 64 hex digits.',
    )
  return { seq: Number(seq), hash }
}
