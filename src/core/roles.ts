import type { DatasetDefinition } from '../../schemas/config.ts'
import { type Action, ROLES } from '../../schemas/roles.ts'

/** Whom the definition names with a role that may do it; null: it declares no roles, so whoever may connect. What holds `snapflip.may` decides. */
export function whoMay({ roles, may }: Pick<DatasetDefinition, 'roles' | 'may'>, action: Action): string[] | null {
  if (roles === undefined) return null
  const enough = ROLES.slice(ROLES.indexOf(may[action]))
  return [...new Set(enough.flatMap((role) => roles[role] ?? []))]
}
