import type { ConfigInput } from '../schemas/config.ts'

export type { ConfigInput } from '../schemas/config.ts'

/** A definition as it is written. What comes from the environment may be missing there: whoever reads the definition is told which. */
export interface Definition extends Omit<ConfigInput, 'database' | 'stores'> {
  database: ConfigInput['database'] | undefined
  stores: Record<string, string | undefined>
}

/** Types the definition in `snapflip.config.ts`; returns it as it is. */
export function defineConfig(definition: Definition): Definition {
  return definition
}
