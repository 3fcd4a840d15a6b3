import type { DatasetDefinition } from '../schemas/config.ts'
import { select } from '../src/registry/transaction.ts'
import type { Deps } from './deps.ts'

/**
 * The same, with the dataset as the policy version has it that the refresh was opened under: a worker may have been started with another definition
 * before or since, and neither that one's limits nor its approvals are this refresh's. A refresh from before there were policy versions: as the
 * worker has it.
 */
export async function underPolicy<Some extends Pick<Deps, 'pool' | 'config'>>(
  deps: Some,
  { dataset, refreshId }: { dataset: string; refreshId: string },
): Promise<Some> {
  const [policy] = await select<{ body: DatasetDefinition }>(deps.pool, POLICY, [refreshId, dataset])
  if (policy === undefined) return deps
  const { config } = deps
  return { ...deps, config: { ...config, datasets: { ...config.datasets, [dataset]: policy.body } } }
}

const POLICY = `
  select body
    from snapflip.refresh_runs join snapflip.definitions using (dataset)
   where refresh_runs.id = $1 and dataset = $2 and number = policy_number`
