import { SnapflipError } from '../core/errors.ts'

/** Parses a store's URL; the message never repeats it, since what does not parse may hold a password. */
export function parseStoreUrl(url: string, expected: string): URL {
  try {
    return new URL(url)
  } catch {
    throw new SnapflipError('CONFIG_INVALID', `Store URL does not parse, expected ${expected}.`)
  }
}

/** The query of a store's URL. Unknown names are refused: a mistyped option would silently not hold. */
export function urlOptions<N extends string>(url: URL, known: readonly N[]): Partial<Record<N, string>> {
  const options: Partial<Record<N, string>> = {}
  for (const [name, value] of url.searchParams) {
    if (!known.includes(name as N)) {
      throw new SnapflipError(
        'CONFIG_INVALID',
        `Store URL has the option ${JSON.stringify(name)}, expected one of ${known.join(', ')}.`,
        { option: name },
      )
    }
    options[name as N] = value
  }
  return options
}

/** A whole number from a URL option. */
export function wholeNumber(name: string, value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new SnapflipError(
    'CONFIG_INVALID',
    `Option ${name} of a store URL is ${JSON.stringify(value)}, expected a whole number.`,
    { option: name },
  )
}
