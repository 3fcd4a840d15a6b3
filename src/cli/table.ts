import Table from 'cli-table3'

/** Rows under headings, without frames: made to be read and to be cut with awk alike. */
export function table(headings: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const plain = new Table({
    head: headings.map((heading) => heading.toUpperCase()),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2, compact: true },
    chars: Object.fromEntries(FRAME.map((part) => [part, ''])),
  })
  for (const row of rows) plain.push(row.map((cell) => (cell === null ? '-' : String(cell))))
  return plain
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

const FRAME = [
  ...['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'],
  ...['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'],
]

/** Names and what they are, one a line. */
export function card(lines: readonly (readonly [name: string, value: string | number | null])[]): string {
  const width = Math.max(...lines.map(([name]) => name.length))
  return lines.map(([name, value]) => `${name.padEnd(width)}  ${value ?? '-'}`).join('\n')
}

/** 2026-05-18 09:30:00Z */
export function formatTime(at: Date | string | null): string | null {
  if (at === null) return null
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')}Z`
}
