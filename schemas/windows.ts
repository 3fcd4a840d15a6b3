import { z } from 'zod'

export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const

export const MINUTES_A_DAY = 1440
const MINUTES_A_WEEK = 7 * MINUTES_A_DAY

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'expected a time of day such as 22:00')

/** Every week, on these days (all without), from one time of day to another; where that is not later, to the one of the next day. */
const weeklySchema = z.strictObject({
  days: z.array(z.enum(WEEKDAYS)).min(1).optional(),
  from: timeOfDay,
  to: timeOfDay,
})
export type WeeklySpan = z.infer<typeof weeklySchema>

const localMoment = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d$/, 'expected a local date and time such as 2026-12-24T00:00')
  .refine(isMoment, 'expected a date that there is')

/** Once, from one moment of the zone's clocks to another. */
const datedSchema = z
  .strictObject({ starts: localMoment, ends: localMoment })
  .refine(({ starts, ends }) => starts < ends, 'expected `ends` after `starts`')
export type DatedSpan = z.infer<typeof datedSchema>

/** Minutes of the week, Monday 00:00 being 0, that a weekly span covers. */
export function minutesOf({ days = [...WEEKDAYS], from, to }: WeeklySpan): Array<readonly [number, number]> {
  const minute = (text: string) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3))
  const [begins, ends] = [minute(from), minute(to)]
  const length = ends > begins ? ends - begins : MINUTES_A_DAY - begins + ends
  return days.flatMap((day) => {
    const at = WEEKDAYS.indexOf(day) * MINUTES_A_DAY + begins
    const end = at + length
    return end <= MINUTES_A_WEEK
      ? [[at, end] as const]
      : [[at, MINUTES_A_WEEK] as const, [0, end - MINUTES_A_WEEK] as const]
  })
}

/** Whether a week has a minute in an open span and in no blackout that comes every week. Dates pass; they close nothing for ever. */
function everOpens(open: readonly WeeklySpan[] | undefined, blackout: readonly (WeeklySpan | DatedSpan)[]): boolean {
  const isOpen = new Uint8Array(MINUTES_A_WEEK).fill(open === undefined ? 1 : 0)
  for (const [from, to] of (open ?? []).flatMap(minutesOf)) isOpen.fill(1, from, to)
  for (const span of blackout) if ('from' in span) for (const [from, to] of minutesOf(span)) isOpen.fill(0, from, to)
  return isOpen.includes(1)
}

/** When a dataset may be refreshed, whoever starts it. */
export const windowsSchema = z
  .strictObject({
    /** Without it: always, save in a blackout. */
    open: z.array(weeklySchema).min(1).optional(),
    /** Closed then, whatever `open` says. */
    blackout: z.array(z.union([weeklySchema, datedSchema])).default([]),
    /** Of all times here; daylight saving time included. */
    timezone: z.string().refine(isTimeZone, 'expected a time zone such as Europe/Vienna').default('UTC'),
    /** A refresh that is started while they are closed: waits until they open, or ends SKIPPED. */
    outside: z.enum(['wait', 'skip']).default('wait'),
    /** A refresh that runs when they close: goes on, or stops before the canary or the flip and keeps what it sealed for the next one. */
    onClose: z.enum(['finish', 'keepCandidate']).default('finish'),
  })
  .refine(({ open, blackout }) => everOpens(open, blackout), 'expected windows that open, these never do')
export type Windows = z.infer<typeof windowsSchema>

/** JavaScript takes 30 February for 2 March. */
function isMoment(text: string): boolean {
  const at = new Date(`${text}Z`)
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(text)
}

/** Whether there is such a time zone, as the JavaScript runtime knows them. */
export function isTimeZone(name: string): boolean {
  try {
    return Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== undefined
  } catch {
    return false
  }
}
