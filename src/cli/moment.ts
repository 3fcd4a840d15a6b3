import { InvalidArgumentError } from 'commander'
import { z } from 'zod'

/** Without a zone a time would mean another moment on each machine; a date begins at midnight UTC. */
const momentSchema = z.union([
  z.iso.date(),
  z.iso.datetime({ offset: true }),
  z.iso.datetime({ offset: true, precision: -1 }),
])

/** Parses a time given on the command line; also as tables print it, with a blank before the time of day, and the word that people type in an incident. */
export function moment(text: string): Date {
  if (text === 'now') return new Date()
  const { data } = momentSchema.safeParse(text.replace(' ', 'T'))
  if (data === undefined)
    throw new InvalidArgumentError(
      'Expected a time such as 2026-05-18 (midnight UTC), or with its zone: 2026-05-18T09:30:00Z, or now.',
    )
  return new Date(data)
}
