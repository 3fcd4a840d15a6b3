import { tagSchema } from '../../schemas/pointer.ts'
import type { Session } from './session.ts'
import { unknownVersion } from './unknown-version.ts'

/** That the store has it: a rollback needs neither source nor registry, and a mistyped tag shall not need a worker to be found out. */
export async function requireTag(session: Session, dataset: string, tag: string): Promise<void> {
  const store = await session.store(dataset)
  if (tagSchema.safeParse(tag).success && (await store.data.readManifest(tag)) !== null) return
  throw unknownVersion(dataset, tag, await store.data.listManifests())
}
