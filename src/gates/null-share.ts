import { columnGate, percent } from './column-gate.ts'

/** Columns of the value that lost their contents: more nulls than declared. */
export const nullShare = columnGate('nullShare', ({ nullShare }, column, { nulls, entries }) => {
  if (nullShare === undefined) return null
  const { max, verdict } = nullShare
  const actual = entries === 0 ? 0 : nulls / entries
  const text = `${column} is null in ${percent(actual)}`
  if (actual <= max) return { verdict: 'pass', text, actual, limit: max }
  return { verdict, text: `${text}, at most ${percent(max)} may be`, actual, limit: max }
})
