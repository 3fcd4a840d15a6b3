import { randomUUID } from 'node:crypto'
import { nameSchema } from '../../schemas/name.ts'
import { SnapflipError } from '../core/errors.ts'
import { openStore } from '../stores/open.ts'
import type { Store } from '../stores/ports.ts'
import { newBlockCache } from './block-reader.ts'
import { ByteBudget } from './byte-budget.ts'
import { Follower } from './follower.ts'
import { type Limits, limitsOf, type ReaderOptions } from './options.ts'
import { Reader } from './reader.ts'
import type { ValueTypes } from './reads.ts'
import { Reporter } from './reporter.ts'
import { Source } from './source.ts'
import { type Counting, noCounts } from './tally.ts'
import type { TreeObject } from './tree.ts'
import { Values } from './values.ts'

/**
 * Opens a dataset for reading from a store, or from the first of several that can serve it. Needs neither PostgreSQL nor Temporal.
 *
 *     const reader = await open<{ products: Product }>('redis://localhost:6379', 'shop')
 *     const product = await reader.get('products', 42)
 *
 * Throws STORE_UNREACHABLE and NO_ACTIVE_VERSION after `waitMs` (at once with `start: 'fail'`), CORRUPT, FORMAT_TOO_NEW.
 */
export async function open<T extends ValueTypes = ValueTypes>(
  url: string | readonly string[],
  dataset: string,
  options: ReaderOptions<T> = {},
): Promise<Reader<T>> {
  const limits = limitsOf(options as ReaderOptions)
  const { connectTimeoutMs, commandTimeoutMs } = limits
  const urls = typeof url === 'string' ? [url] : url
  if (!Array.isArray(urls) || urls.length === 0 || urls.some((one) => typeof one !== 'string'))
    throw new SnapflipError('USAGE', 'open was given no store, expected a URL, or a list of them.')
  if (!nameSchema.safeParse(dataset).success) {
    throw new SnapflipError(
      'USAGE',
      `open was given the dataset ${JSON.stringify(dataset)}, expected its name in the configuration.`,
      { option: 'dataset' },
    )
  }
  const stores: Store[] = []
  try {
    for (const one of urls) stores.push(await openStore(one, { dataset, connectTimeoutMs, commandTimeoutMs }))
    return await openReader(stores, dataset, options, limits)
  } catch (error) {
    await Promise.allSettled(stores.map((store) => store.close()))
    throw error
  }
}

/** `open` over stores that are open already; closing the reader closes them. */
export async function openReader<T extends ValueTypes = ValueTypes>(
  stores: readonly Store[],
  dataset: string,
  options: ReaderOptions<T> = {},
  limits: Limits = limitsOf(options as ReaderOptions),
): Promise<Reader<T>> {
  const caches = {
    pages: new ByteBudget<TreeObject>(limits.pageCacheBytesMax),
    blocks: limits.blockCacheBytesMax === 0 ? null : newBlockCache(limits.blockCacheBytesMax),
  }
  const counting: Counting = { all: noCounts(), recent: limits.reportKeys ? new Map() : null }
  const sources = stores.map((store, at) => new Source(dataset, store, caches, `${at}:`, counting))
  const follower = new Follower(dataset, sources, limits)
  const reporter = new Reporter(randomUUID(), limits.reportMs, counting, (error) => follower.tell('error', error))
  follower.onServing = (serving) => reporter.serve(serving)
  follower.onCandidateFailure = (canaryId) => reporter.couldNotOpen(canaryId)
  if (options.logger !== undefined) logTo(options.logger, dataset, follower)
  // Keyed by index at run time; T says so to the compiler only.
  const values = new Values(options as ReaderOptions)
  try {
    await follower.start()
    return new Reader<T>(dataset, follower, sources, limits, values, { counting, reporter, metrics: options.metrics })
  } catch (error) {
    follower.close()
    await reporter.close()
    throw error
  }
}

function logTo(logger: NonNullable<ReaderOptions['logger']>, dataset: string, { events }: Follower): void {
  events.on('flip', ({ from, to, store }) =>
    logger.info({ dataset, store, from: from?.tag ?? null, version: to.tag }, 'reads answer from another version'),
  )
  events.on('stale', ({ version, ageMs, store }) =>
    logger.warn({ dataset, store, version: version.tag, ageMs }, 'the pointer cannot be refreshed'),
  )
  events.on('expired', ({ version, currentUpTo, budgetMs, store }) =>
    logger.warn(
      { dataset, store, version: version.tag, currentUpTo, budgetMs },
      'the version is older than its budget',
    ),
  )
  events.on('error', (error) => logger.warn({ dataset, err: error }, 'the reader met an error'))
}
