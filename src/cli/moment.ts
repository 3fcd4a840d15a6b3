import { InvalidArgumentError } from 'commander'

/** Parses a time given on the command line. */
export function moment(text: string): Date {
  const at = new Date(text)
  if (Number.isNaN(at.getTime()))
    throw new InvalidArgumentError('Expected a time such as 2026-05-18 or 2026-05-18T09:30:00Z.')
  return at
}
