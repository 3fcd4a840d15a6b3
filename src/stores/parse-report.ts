import { type CounterReport, counterReportSchema } from '../../schemas/counters.ts'

/** What lies where a report of a watch should; null when it is none, or another watch's. */
export function parseReport(text: string, watchId: string): CounterReport | null {
  try {
    const report = counterReportSchema.safeParse(JSON.parse(text)).data
    return report?.watchId === watchId ? report : null
  } catch {
    return null
  }
}

/** Name of an object with one reader's report. Encoded names have no comma, so what begins with `reportsOf` is that watch's alone. */
export function reportName({ watchId, side, readerId }: Pick<CounterReport, 'watchId' | 'side' | 'readerId'>): string {
  return `${reportsOf(watchId)}${side},${encodeURIComponent(readerId)}`
}

export function reportsOf(watchId: string): string {
  return `${encodeURIComponent(watchId)},`
}
