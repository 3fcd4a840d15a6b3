import type { z } from 'zod'
import type { ConfigInput } from '../schemas/config.ts'
import type { GateFunction } from './gates/user-function.ts'

export type { ConfigInput } from '../schemas/config.ts'
export type { FunctionAnswer, FunctionSubject, GateFunction, JudgedChange } from './gates/user-function.ts'

type DatasetInput = ConfigInput['datasets'][string]
type GatesInput = NonNullable<DatasetInput['gates']>
type ValueSchemaInput = NonNullable<GatesInput['valueSchema']>[string]
type UserGateInput = NonNullable<GatesInput['user']>[string]

/** What JSON has no word for may stand in a .ts or .js definition: zod schemas, functions. */
interface Gates extends Omit<GatesInput, 'valueSchema' | 'user'> {
  valueSchema?: Record<string, Omit<ValueSchemaInput, 'schema'> & { schema: ValueSchemaInput['schema'] | z.ZodType }>
  user?: Record<
    string,
    | Exclude<UserGateInput, { kind: 'function' }>
    | (Omit<Extract<UserGateInput, { kind: 'function' }>, 'function'> & { function: GateFunction })
  >
}

/** A definition as it is written. What comes from the environment may be missing there: whoever reads the definition is told which. */
export interface Definition extends Omit<ConfigInput, 'database' | 'stores' | 'datasets'> {
  database: ConfigInput['database'] | undefined
  stores: Record<string, string | undefined>
  datasets: Record<string, Omit<DatasetInput, 'gates'> & { gates?: Gates }>
}

/** Types the definition in `snapflip.config.ts`; returns it as it is. */
export function defineConfig(definition: Definition): Definition {
  return definition
}
