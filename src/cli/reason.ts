import { InvalidArgumentError } from 'commander'

/** Of --reason: history keeps it for whoever asks why. */
export function reason(text: string): string {
  if (text.trim() === '') throw new InvalidArgumentError('Expected some words that say why.')
  return text.trim()
}
