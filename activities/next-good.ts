import { goodBefore } from '../src/registry/good-before.ts'
import type { Store } from '../src/stores/ports.ts'
import type { Deps } from './deps.ts'

/** What a person may do about an unhealthy version that a rollback went to: the pointer is not moved again by itself. */
export async function nextGood(deps: Pick<Deps, 'pool'>, store: Store, dataset: string, tag: string): Promise<string> {
  const pointer = (await store.pointer.read())?.pointer
  const next = pointer === undefined ? null : await goodBefore(deps.pool, { dataset, from: tag, pointer })
  return next === null
    ? `There is no retained version before it: \`snapflip refresh ${dataset} --full\` builds one.`
    : `The next good version is ${next}: \`snapflip rollback ${dataset} --to ${next} --reason …\`.`
}
