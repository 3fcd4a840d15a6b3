import { generationSchema } from '../../schemas/manifest.ts'
import { tagSchema } from '../../schemas/pointer.ts'

/** Whether a name may be that of a manifest. Others beside them (`.DS_Store`, `lost+found`) are a stranger's: not read, not deleted. */
export function isTag(name: string): boolean {
  return tagSchema.safeParse(name).success
}

/** Whether a name may be that of a generation. */
export function isGeneration(name: string): boolean {
  return generationSchema.safeParse(name).success
}
