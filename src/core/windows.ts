import { type DatedSpan, MINUTES_A_DAY, minutesOf, type WeeklySpan, type Windows } from '../../schemas/windows.ts'

/** Whether refreshes may run now, and when that changes next; null: it stays so. */
export interface WindowState {
  isOpen: boolean
  changesAt: Date | null
}

const MINUTE_MS = 60_000
const DAY_MS = MINUTES_A_DAY * MINUTE_MS
/** What repeats has changed within a week, if it ever does; clocks that are put forward may hide one occurrence. */
const LOOK_AHEAD_DAYS = 15

/**
 * Windows are declared in what clocks of their zone show. A moment is open when the clock's reading lies in an open span and in no blackout: so
 * an hour that is shown twice is open twice, and one that is never shown is never open. Time zones are those of the JavaScript runtime, which
 * differ between its releases: workflows ask for this by an activity.
 */
export function windowState(windows: Windows, at: Date): WindowState {
  const clock = new ZoneClock(windows.timezone)
  const isOpenAt = (ms: number) => isOpen(windows, clock.read(ms))
  const isOpenNow = isOpenAt(at.getTime())
  for (let from = at.getTime(); ; ) {
    const changes = momentsOfChange(windows, clock, from).find((ms) => isOpenAt(ms) !== isOpenNow)
    if (changes !== undefined) return { isOpen: isOpenNow, changesAt: new Date(changes) }
    // What repeats does not change it: only a date that is further away can.
    const further = datesOf(windows)
      .flatMap((text) => clock.moments(text))
      .filter((ms) => ms > from + LOOK_AHEAD_DAYS * DAY_MS)
    if (further.length === 0) return { isOpen: isOpenNow, changesAt: null }
    from = Math.min(...further) - 1
  }
}

function isOpen({ open, blackout }: Windows, reading: Reading): boolean {
  return (open?.some((span) => covers(span, reading)) ?? true) && !blackout.some((span) => covers(span, reading))
}

function covers(span: WeeklySpan | DatedSpan, { text, minuteOfWeek }: Reading): boolean {
  if ('starts' in span) return span.starts <= text && text < span.ends
  return minutesOf(span).some(([from, to]) => from <= minuteOfWeek && minuteOfWeek < to)
}

/** Every moment after `from`, within the days ahead, at which it may open or close: in order, some of them without a change. */
function momentsOfChange(windows: Windows, clock: ZoneClock, from: number): number[] {
  const until = from + LOOK_AHEAD_DAYS * DAY_MS
  const times = new Set(
    [...(windows.open ?? []), ...windows.blackout].flatMap((span) => ('from' in span ? [span.from, span.to] : [])),
  )
  const moments = datesOf(windows).flatMap((text) => clock.moments(text))
  // By half days: a day of 23 hours must not be stepped over.
  for (let day = from - DAY_MS; day <= until + DAY_MS; day += DAY_MS / 2) {
    const date = clock.read(day).text.slice(0, 10)
    for (const time of times) moments.push(...clock.moments(`${date}T${time}`))
    // Where clocks are put forward over a limit, that is when it takes effect.
    moments.push(...clock.shifts(day))
  }
  return [...new Set(moments)].filter((ms) => from < ms && ms <= until).sort((a, b) => a - b)
}

function datesOf({ blackout }: Windows): string[] {
  return blackout.flatMap((span) => ('starts' in span ? [span.starts, span.ends] : []))
}

/** What a clock shows: `YYYY-MM-DDTHH:MM`, and the minutes since Monday 00:00. */
interface Reading {
  text: string
  minuteOfWeek: number
}

class ZoneClock {
  readonly #format: Intl.DateTimeFormat

  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-CA', {
      timeZone,
      calendar: 'gregory',
      numberingSystem: 'latn',
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
    })
  }

  read(ms: number): Reading {
    const parts = Object.fromEntries(this.#format.formatToParts(ms).map(({ type, value }) => [type, value]))
    const text = `${parts.year}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`
    const shown = Date.parse(`${text}Z`)
    // 1970-01-05 was a Monday.
    const sinceMonday = (shown / MINUTE_MS - 4 * MINUTES_A_DAY) % (7 * MINUTES_A_DAY)
    return { text, minuteOfWeek: sinceMonday < 0 ? sinceMonday + 7 * MINUTES_A_DAY : sinceMonday }
  }

  /** The moments at which the clock begins to show this: none where it is put forward over it, two where it is put back. */
  moments(text: string): number[] {
    const shown = Date.parse(`${text}Z`)
    const offsets = new Set([this.#offset(shown - DAY_MS), this.#offset(shown + DAY_MS)])
    return [...offsets].map((offset) => shown - offset).filter((ms) => this.read(ms).text === text)
  }

  /** When, in the day after this moment, the clock is put forward or back; never on most days. */
  shifts(ms: number): number[] {
    let [before, after] = [Math.floor(ms / MINUTE_MS), Math.floor((ms + DAY_MS) / MINUTE_MS)]
    const offset = this.#offset(before * MINUTE_MS)
    if (this.#offset(after * MINUTE_MS) === offset) return []
    while (after - before > 1) {
      const middle = Math.floor((before + after) / 2)
      if (this.#offset(middle * MINUTE_MS) === offset) before = middle
      else after = middle
    }
    return [after * MINUTE_MS]
  }

  /** How far the clock is ahead of UTC. */
  #offset(ms: number): number {
    const whole = Math.floor(ms / MINUTE_MS) * MINUTE_MS
    return Date.parse(`${this.read(whole).text}Z`) - whole
  }
}
