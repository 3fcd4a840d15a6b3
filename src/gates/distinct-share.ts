import { columnGate, percent } from './column-gate.ts'

/**
 * Columns of the value that became one value (all prices 0), or fell apart where few were expected. Of the entries that have a value. A sample
 * repeats less than the whole does: limits are meant for what was looked at, which the evidence names.
 */
export const distinctShare = columnGate('distinctShare', ({ distinctShare }, column, { nulls, distinct, entries }) => {
  if (distinctShare === undefined) return null
  const { min = 0, max = 1, verdict } = distinctShare
  const limit = `${min} to ${max}`
  const values = entries - nulls
  // None has a value: that is for nullShare to judge.
  if (values === 0) return { verdict: 'pass', text: `${column}: no values`, actual: null, limit }
  const actual = distinct / values
  if (min <= actual && actual <= max)
    return { verdict: 'pass', text: `${column}: ${percent(actual)} distinct`, actual, limit }
  const text = `${column} has ${distinct} distinct of ${values} values (${percent(actual)}), expected ${percent(min)} to ${percent(max)}`
  return { verdict, text, actual, limit }
})
