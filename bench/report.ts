import Table from 'cli-table3'

/** One line of the table. */
export interface Line {
  /** The group that `--only` names. */
  group: string
  what: string
  /** As a person reads it: "3.21 s". */
  measured: string
  /** In the unit that `measured` is told in, for `--json`. */
  value: number
  ratio?: { value: number; to: string }
  /** What is aimed at, and whether it was met. */
  aim?: { text: string; met: boolean }
}

export function tableOf(lines: readonly Line[]): string {
  const table = new Table({ head: ['measured', 'value', 'ratio', 'aim'], style: { head: [], border: [] } })
  let group = ''
  for (const line of lines) {
    if (line.group !== group) table.push([{ content: line.group.toUpperCase(), colSpan: 4 }])
    group = line.group
    table.push([
      line.what,
      line.measured,
      line.ratio === undefined ? '' : `${line.ratio.value.toFixed(2)} × ${line.ratio.to}`,
      line.aim === undefined ? '' : `${line.aim.text} ${line.aim.met ? '✓' : '✗'}`,
    ])
  }
  return table.toString()
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number
}

export const seconds = (ms: number): string => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`)
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}
