import type { ConfigInput } from '../schemas/config.ts'

export type { ConfigInput } from '../schemas/config.ts'

/** Types the definition in `snapflip.config.ts`; returns it as it is. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config
}
