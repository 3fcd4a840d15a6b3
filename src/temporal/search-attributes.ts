import type { NativeConnection } from '@temporalio/worker'
import type { Logger } from '../observe/log.ts'

/** temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD */
const KEYWORD = 2

/** Custom search attributes of a refresh, all keywords. */
export const SEARCH_ATTRIBUTES = ['snapflipDataset', 'snapflipVersion', 'snapflipOutcome'] as const

/**
 * Makes sure that the server knows our search attributes: true when it does. A namespace in which we may not register them is
 * no reason not to run: workflows then go without, since an unknown one would fail their tasks.
 */
export async function registerSearchAttributes(
  connection: NativeConnection,
  namespace: string,
  log: Logger,
): Promise<boolean> {
  try {
    const known = await connection.operatorService.listSearchAttributes({ namespace })
    const missing = SEARCH_ATTRIBUTES.filter((name) => known.customAttributes?.[name] === undefined)
    if (missing.length > 0) {
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing.map((name) => [name, KEYWORD])),
      })
    }
    return true
  } catch (error) {
    log.warn(
      { err: error, namespace, searchAttributes: SEARCH_ATTRIBUTES },
      'search attributes could not be registered; refreshes run without them. An operator can add them as keywords.',
    )
    return false
  }
}
