import { z } from 'zod'

/** From the least to the most: who has a role has all before it. */
export const ROLES = ['viewer', 'operator', 'approver', 'admin'] as const
const roleSchema = z.enum(ROLES)
export type Role = z.infer<typeof roleSchema>

/** A login of PostgreSQL; `temporal:<identity>` for a start from Temporal, which proves nobody; `temporal:*` for any such. */
const actors = z.array(z.string().trim().min(1)).min(1)

/** Who has which role; without it whoever may connect may do everything. */
export const rolesSchema = z.strictObject({
  viewer: actors.optional(),
  operator: actors.optional(),
  approver: actors.optional(),
  admin: actors.optional(),
})

const atLeast = (role: Role) => roleSchema.default(role)

/** The least role for what can be refused; `snapflip.may` (schemas/migrations) decides by it. */
export const maySchema = z.strictObject({
  apply: atLeast('admin'),
  /** That the history does not lead to an anchor (`history accept`). */
  accept: atLeast('admin'),
  /** By hand; a schedule's runs nobody has to allow. */
  refresh: atLeast('operator'),
  rollback: atLeast('operator'),
  hold: atLeast('operator'),
  quarantine: atLeast('operator'),
  pin: atLeast('operator'),
  drill: atLeast('operator'),
  approve: atLeast('approver'),
  /** Forward to a retained version. */
  flip: atLeast('approver'),
  resume: atLeast('approver'),
  release: atLeast('approver'),
  waive: atLeast('approver'),
})
export type Action = keyof z.infer<typeof maySchema>
