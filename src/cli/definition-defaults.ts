import { type DatasetDefinition, datasetSchema, eventsIndexSchema, tableIndexSchema } from '../../schemas/config.ts'
import { type DefinitionChange, definitionChanges } from '../core/definition-changes.ts'

/** What holds of a dataset, and of each of its indexes, where the definition says nothing. What it has to say is not there. */
export function definitionDefaults({ stores, indexes }: DatasetDefinition) {
  const { from, key, value, ...ofTable } = tableIndexSchema.parse({ from: 'table', key: 'key', value: 'value' })
  const { events, ...ofEvents } = eventsIndexSchema.parse({ events: true })
  return {
    ...datasetSchema.parse({ stores, indexes }),
    stores: undefined,
    indexes: Object.fromEntries(
      Object.entries(indexes).map(([name, index]) => [name, 'events' in index ? ofEvents : ofTable]),
    ),
  }
}

/** All that a dataset declares beyond what holds by itself, by path. */
export function declaredOptions(definition: DatasetDefinition): DefinitionChange[] {
  // As the registry keeps it: JSON.
  return definitionChanges(definitionDefaults(definition), JSON.parse(JSON.stringify(definition)))
}
