import type { DatasetDefinition } from '../schemas/config.ts'
import { currentDefinition } from '../src/registry/current-definition.ts'
import { select } from '../src/registry/transaction.ts'
import { type Deps, datasetOf } from './deps.ts'

/** What knows the definition: the file of whoever acts, and the registry. */
type Knowing = Pick<Deps, 'pool' | 'config'>

/**
 * The same, with the dataset as the policy version has it that the refresh was opened under: a worker may have been started with another definition
 * before or since, and neither that one's limits nor its approvals are this refresh's. A refresh from before there were policy versions: as applied.
 */
export async function underPolicy<Some extends Knowing>(
  deps: Some,
  { dataset, refreshId }: { dataset: string; refreshId: string },
): Promise<Some> {
  const [policy] = await select<{ body: DatasetDefinition }>(deps.pool, POLICY, [refreshId, dataset])
  return policy === undefined ? underApplied(deps, dataset) : withDefinition(deps, dataset, policy.body)
}

/**
 * The same, with the dataset as it was applied last: for what belongs to no refresh. An edited file changes no limit and no rule before it is applied;
 * it says where stores are, and holds where nothing was applied yet.
 *
 * @throws SnapflipError UNKNOWN_DATASET when the file has no such dataset
 */
export async function underApplied<Some extends Knowing>(deps: Some, dataset: string): Promise<Some> {
  datasetOf(deps.config, dataset)
  const applied = await currentDefinition(deps.pool, dataset)
  return applied === null ? deps : withDefinition(deps, dataset, applied.definition)
}

/** The dataset as it was applied last. */
export async function definitionOf(deps: Knowing, dataset: string): Promise<DatasetDefinition> {
  return datasetOf((await underApplied(deps, dataset)).config, dataset)
}

function withDefinition<Some extends Knowing>(deps: Some, dataset: string, definition: DatasetDefinition): Some {
  const { config } = deps
  return { ...deps, config: { ...config, datasets: { ...config.datasets, [dataset]: definition } } }
}

const POLICY = `
  select body
    from snapflip.refresh_runs join snapflip.definitions using (dataset)
   where refresh_runs.id = $1 and dataset = $2 and number = policy_number`
