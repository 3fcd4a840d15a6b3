import fc from 'fast-check'
import { expect, it } from 'vitest'
import { WEEKDAYS, type Windows, windowsSchema } from '../../schemas/windows.ts'
import { windowState } from '../../src/core/windows.ts'

const windows = (declared: object): Windows => windowsSchema.parse(declared)
const told = (declared: object, at: string) => {
  const { isOpen, changesAt } = windowState(windows(declared), new Date(at))
  return [isOpen, changesAt?.toISOString().slice(0, 16) ?? null]
}

it('a window over midnight belongs to the day on which it begins', () => {
  const weekend = { open: [{ days: ['sat', 'sun'], from: '22:00', to: '06:00' }] }
  // 2026-05-16 is a Saturday.
  expect(told(weekend, '2026-05-16T21:59:59Z')).toEqual([false, '2026-05-16T22:00'])
  expect(told(weekend, '2026-05-16T22:00:00Z')).toEqual([true, '2026-05-17T06:00'])
  expect(told(weekend, '2026-05-18T05:59:00Z')).toEqual([true, '2026-05-18T06:00'])
  expect(told(weekend, '2026-05-18T06:00:00Z')).toEqual([false, '2026-05-23T22:00'])
})

it('a window is what clocks of its zone show: on the days they change, too', () => {
  const nights = { open: [{ from: '01:00', to: '02:30' }], timezone: 'Europe/Vienna' }
  // 2026-03-29: 02:00 to 03:00 is not shown. The window ends when the clock is put forward.
  expect(told(nights, '2026-03-29T00:30:00Z')).toEqual([true, '2026-03-29T01:00'])
  // 2026-10-25: 02:00 to 03:00 is shown twice, the window opens again when the clock is put back.
  expect(told(nights, '2026-10-25T00:10:00Z')).toEqual([true, '2026-10-25T00:30'])
  expect(told(nights, '2026-10-25T00:45:00Z')).toEqual([false, '2026-10-25T01:00'])
  const hidden = { open: [{ from: '02:15', to: '02:45' }], timezone: 'Europe/Vienna' }
  expect(told(hidden, '2026-03-28T12:00:00Z')).toEqual([false, '2026-03-30T00:15'])
})

it('a blackout closes whatever is open, by the week or by date', () => {
  const shop = {
    open: [{ from: '08:00', to: '18:00' }],
    blackout: [
      { days: ['fri'], from: '12:00', to: '13:00' },
      { starts: '2026-12-20T00:00', ends: '2027-01-07T00:00' },
    ],
  }
  expect(told(shop, '2026-05-22T12:30:00Z')).toEqual([false, '2026-05-22T13:00'])
  expect(told(shop, '2026-12-19T12:00:00Z')).toEqual([true, '2026-12-19T18:00'])
  expect(told(shop, '2026-12-19T18:00:00Z')).toEqual([false, '2027-01-07T08:00'])
})

it('what never changes says so', () => {
  expect(told({}, '2026-05-18T00:00:00Z')).toEqual([true, null])
  expect(
    told({ blackout: [{ starts: '2030-01-01T00:00', ends: '2030-01-02T00:00' }] }, '2026-05-18T00:00:00Z'),
  ).toEqual([true, '2030-01-01T00:00'])
  expect(
    told({ blackout: [{ starts: '2020-01-01T00:00', ends: '2020-01-02T00:00' }] }, '2026-05-18T00:00:00Z'),
  ).toEqual([true, null])
})

const STEP_MS = 15 * 60_000
const time = fc
  .tuple(fc.integer({ min: 0, max: 23 }), fc.constantFrom('00', '15', '30', '45'))
  .map(([hour, minute]) => `${String(hour).padStart(2, '0')}:${minute}`)
const span = fc.record({ days: fc.subarray([...WEEKDAYS], { minLength: 1 }), from: time, to: time })
const zone = fc.constantFrom('UTC', 'Europe/Vienna', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe')
/** Around the days on which clocks change. */
const around = fc.constantFrom('2026-03-08', '2026-03-29', '2026-04-05', '2026-10-04', '2026-10-25', '2026-11-01')

it('it says when it opens and closes as looking at a clock every quarter of an hour does', () => {
  fc.assert(
    fc.property(
      fc.array(span, { minLength: 1, maxLength: 2 }),
      fc.array(span, { maxLength: 1 }),
      zone,
      around,
      fc.nat(191),
      (open, blackout, timezone, day, quarters) => {
        const parsed = windowsSchema.safeParse({ open, blackout, timezone })
        fc.pre(parsed.success)
        const declared = parsed.data as Windows
        const at = Date.parse(`${day}T00:00:00Z`) - 86_400_000 + quarters * STEP_MS
        const { isOpen, changesAt } = windowState(declared, new Date(at))
        expect(isOpen).toBe(seen(declared, at))
        let next = at + STEP_MS
        const end = at + 8 * 86_400_000
        while (next < end && seen(declared, next) === isOpen) next += STEP_MS
        if (next < end) expect(changesAt?.getTime()).toBe(next)
        else expect(changesAt?.getTime() ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(end)
      },
    ),
    { numRuns: 60 },
  )
})

/** As a person reads it: the weekday and the time that the clock shows. */
function seen({ open = [], blackout, timezone }: Windows, ms: number): boolean {
  const parts = new Intl.DateTimeFormat('en-GB', {
    timeZone: timezone,
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
  })
    .formatToParts(ms)
    .reduce<Record<string, string>>((all, { type, value }) => Object.assign(all, { [type]: value }), {})
  const day = (parts.weekday ?? '').toLowerCase() as (typeof WEEKDAYS)[number]
  const yesterday = WEEKDAYS[(WEEKDAYS.indexOf(day) + 6) % 7] as (typeof WEEKDAYS)[number]
  const clock = `${parts.hour}:${parts.minute}`
  const within = (span: Windows['blackout'][number]) => {
    if ('starts' in span) throw new Error('not drawn here')
    const days = span.days ?? WEEKDAYS
    if (span.from < span.to) return days.includes(day) && span.from <= clock && clock < span.to
    return (days.includes(day) && span.from <= clock) || (days.includes(yesterday) && clock < span.to)
  }
  return open.some(within) && !blackout.some(within)
}

it.each([
  [{ open: [{ from: '08:00', to: '18:00' }], blackout: [{ from: '07:00', to: '19:00' }] }, 'windows that open'],
  [{ open: [] }, 'expected array to have >=1 items'],
  [{ open: [{ days: [], from: '08:00', to: '18:00' }] }, '>=1 items'],
  [{ open: [{ from: '24:00', to: '18:00' }] }, 'time of day'],
  [{ timezone: 'Europe/Atlantis' }, 'time zone'],
  [{ blackout: [{ starts: '2026-02-30T00:00', ends: '2026-03-01T00:00' }] }, 'date that there is'],
  [{ blackout: [{ starts: '2026-12-27T00:00', ends: '2026-12-24T00:00' }] }, 'after `starts`'],
])('windows that cannot be are refused: %j', (declared, message) => {
  const parsed = windowsSchema.safeParse(declared)
  expect(JSON.stringify(parsed.error?.issues)).toContain(message)
})
