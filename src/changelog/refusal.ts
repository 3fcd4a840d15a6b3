import { type ErrorDetails, SnapflipError } from '../core/errors.ts'
import { sqlState } from './failure.ts'

/** Says no to the definition of one index: what was found, and what to do. */
export class Refusal {
  readonly dataset: string
  readonly index: string

  constructor(dataset: string, index: string) {
    this.dataset = dataset
    this.index = index
  }

  because(found: string, advice: string): never {
    throw new SnapflipError('DEFINITION_INVALID', `${this}: ${found} ${advice}`, this.ids)
  }

  /** What PostgreSQL says of an expression is for those who wrote it; it has read no row yet. */
  said(what: string, error: unknown): never {
    const found = `${what} PostgreSQL says: ${messageOf(error)}.`
    if (sqlState(error) === '42501')
      this.missing(`${found} Grant it to the role that builds; see \`snapflip doctor --grants\`.`)
    this.because(found, adviceFor(error))
  }

  missing(privilege: string, details: ErrorDetails = {}): never {
    throw new SnapflipError('PRIVILEGE_MISSING', `${this}: ${privilege}`, { ...this.ids, ...details })
  }

  toString(): string {
    return `Index ${this.index} of ${this.dataset}`
  }

  get ids(): { dataset: string; index: string } {
    return { dataset: this.dataset, index: this.index }
  }
}

export function messageOf(error: unknown): string {
  if (sqlState(error) === undefined) throw error
  return (error as Error).message
}

function adviceFor(error: unknown): string {
  if (/^(42883|42704|42725)$/.test(sqlState(error) ?? '')) {
    return 'Expressions are evaluated with search_path pg_catalog: write functions and types as schema.name, operators as operator(schema.+).'
  }
  return 'Correct the expression: it may use the columns of its own row.'
}
