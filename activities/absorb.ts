import { SnapflipError } from '../src/core/errors.ts'
import { absorb } from '../src/registry/absorb.ts'
import { changePointer } from '../src/stores/change-pointer.ts'
import type { Store } from '../src/stores/ports.ts'
import type { ReconcileDeps } from './reconcile.ts'
import { ruleOutOpenFlips } from './settle-flips.ts'

/**
 * Lets the registry take over what was rolled back without it, before its own next flip, which the pointer refuses until then. The registry first:
 * dying in between leaves the entries in the pointer, to be found taken over. Null: there was nothing.
 *
 * @throws SnapflipError UNABSORBED while that is not settled which has to be before.
 */
export async function absorbBreakGlass(
  deps: Pick<ReconcileDeps, 'pool' | 'log'>,
  store: Store,
  dataset: string,
): Promise<string | null> {
  const pointer = (await store.pointer.read())?.pointer ?? null
  if (pointer === null || pointer.breakGlass.length === 0) return null
  await ruleOutOpenFlips(deps, store, dataset)
  const done = await absorb(deps.pool, { dataset, store: store.url, pointer })
  const made = pointer.breakGlass.map(({ by, from, to, at }) => `${from} → ${to} by ${by} at ${at}`).join(', ')
  if (done.outcome !== 'absorbed') {
    const found = { openFlip: 'a flip whose outcome is not known', behind: 'a store without the last one' }[
      done.outcome
    ]
    throw new SnapflipError(
      'UNABSORBED',
      `Expected to take over what was rolled back of ${dataset} without the registry (${made}), found ${found}. ` +
        `It is tried again; see \`snapflip status ${dataset}\`.`,
      { dataset, flipIds: pointer.breakGlass.map(({ flipId }) => flipId), found: done.outcome },
    )
  }
  await changePointer(store.pointer, { kind: 'absorb', flipIds: done.flipIds }, { dataset })
  const summary = `the registry took over what was rolled back without it: ${made}`
  deps.log.warn({ dataset, step: 'absorb', flipIds: done.flipIds }, summary)
  return summary
}
