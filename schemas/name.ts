import { z } from 'zod'

/** Of a dataset, an index or a store: part of keys, paths and workflow ids as it is. */
export const nameSchema = z
  .string()
  .regex(
    /^[A-Za-z][A-Za-z0-9_-]{0,62}$/,
    'expected a name of letters, digits, _ and -, starting with a letter, at most 63 long',
  )
  .refine((name) => !(name in Object.prototype), 'expected a name that not every JavaScript object has')
