import { type Db, select } from './transaction.ts'

/** The tag of the version whose build wrote a generation; null when the registry does not know it. Relies on the primary key of builds. */
export async function versionOfGeneration(db: Db, generation: string): Promise<string | null> {
  const [row] = await select<{ tag: string }>(
    db,
    `select tag
       from snapflip.builds join snapflip.index_versions using (refresh_id)
      where builds.generation = $1
      limit 1`,
    [generation],
  )
  return row?.tag ?? null
}
