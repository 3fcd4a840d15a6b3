import type { IndexManifest } from '../../schemas/manifest.ts'
import { SnapflipError } from '../core/errors.ts'

/** @throws SnapflipError USAGE unless as many arguments were given as keys of the index have parts; keys of events have any number. */
export function requireKeyParts(
  { keyParts }: IndexManifest,
  parts: readonly string[],
  { dataset, index }: { dataset: string; index: string },
): void {
  if (keyParts === 0 || parts.length === keyParts) return
  const each = Array.from({ length: keyParts }, (_, i) => (keyParts === 1 ? 'KEY' : `PART${i + 1}`)).join(' ')
  throw new SnapflipError(
    'USAGE',
    `Expected ${keyParts} ${keyParts === 1 ? 'argument' : 'arguments'} as the key of ${index} in ${dataset}, found ${parts.length}. Give ${each}, in the order of the definition; quote what holds spaces.`,
    { dataset, index, expected: keyParts, found: parts.length },
  )
}
