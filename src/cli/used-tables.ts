import type { ClientBase } from 'pg'
import type { DatasetDefinition, IndexDefinition } from '../../schemas/config.ts'
import { namesOfTables } from '../changelog/table-names.ts'
import { SnapflipError } from '../core/errors.ts'
import { appliedDefinitions } from '../registry/applied-definitions.ts'
import type { Db } from '../registry/transaction.ts'
import type { Session } from './session.ts'

/** Tables whose capture other datasets need: those of this definition file, and those the registry knows from others, unless detached. */
export async function usedElsewhere(
  session: Session,
  client: ClientBase,
  registry: Db,
  dataset: string,
): Promise<Set<string>> {
  const { datasets } = await session.config()
  const others = await appliedDefinitions(registry)
  for (const [name, definition] of Object.entries(datasets)) if (others.has(name)) others.set(name, definition)
  others.delete(dataset)
  const indexes = [...others.values()].flatMap((definition) => Object.values(definition.indexes))
  return new Set(await tableNames(client, indexes))
}

/** As PostgreSQL writes them; tables that are gone are left out. */
export async function tableNames(client: ClientBase, indexes: readonly IndexDefinition[]): Promise<string[]> {
  const given = indexes.flatMap((index) => ('events' in index || index.capture === 'none' ? [] : [index.from]))
  return namesOfTables(client, given)
}

/**
 * Every table of the definition is there. All else of a definition is checked with the help of snapflip's own tables; this much can be before
 * these are made.
 *
 * @throws SnapflipError DEFINITION_INVALID
 */
export async function requireTables(registry: Db, dataset: string, definition: DatasetDefinition): Promise<void> {
  for (const [index, declared] of Object.entries(definition.indexes)) {
    if ('events' in declared) continue
    // What does not read as a name is not there either.
    const found = await namesOfTables(registry, [declared.from]).catch(() => [])
    if (found.length > 0) continue
    throw new SnapflipError(
      'DEFINITION_INVALID',
      `Index ${index} of ${dataset}: from: expected a table or view ${declared.from}, found none. Create it, or correct the name (schema.table).`,
      { dataset, index, from: declared.from },
    )
  }
}
