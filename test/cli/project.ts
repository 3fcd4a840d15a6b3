import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ConfigInput } from '../../schemas/config.ts'
import { VIEWER_READS } from '../../src/registry/grants.ts'
import {
  type TestDatabase,
  type TestTemporal,
  testDatabase,
  testFolder,
  testTemporal,
  uniqueName,
} from '../support/services.ts'
import { type Ran, type RunOptions, snapflip, startSnapflip } from './run.ts'

export const PRODUCTS = `
  create table public.products (
    id integer primary key, sku text not null, name text not null, price_cents bigint not null, category text not null,
    hidden boolean not null default false
  );
  insert into public.products
    select i, 'sku' || i, 'Product ' || i, i * 10, 'cat' || (i % 7), i % 10 = 0 from generate_series(1, 2000) i;
  analyze public.products`

export const INDEXES = {
  products: { from: 'public.products', key: 'id', value: ['sku', 'name', 'price_cents'], where: 'not hidden' },
  byCategory: { from: 'public.products', key: 'category', many: true, order: 'price_cents', value: 'id' },
} satisfies ConfigInput['datasets'][string]['indexes']

/** A folder with a definition of one dataset over a database of its own. */
export interface Project {
  folder: string
  database: TestDatabase
  temporal: TestTemporal
  /** Unique in the run: workflow ids and keys in shared stores hold it. */
  dataset: string
  definition: ConfigInput
  /** Writes another definition, for what is run after it. */
  define(change: (definition: ConfigInput) => ConfigInput): Promise<void>
  run(args: readonly string[], options?: RunOptions): Promise<Ran>
  start(args: readonly string[]): ReturnType<typeof startSnapflip>
}

export async function testProject({ store = 'file:./versions', migrated = true } = {}): Promise<Project> {
  const [folder, database, temporal] = await Promise.all([testFolder(), testDatabase({ migrated }), testTemporal()])
  const dataset = `shop${uniqueName()}`
  const definition: ConfigInput = {
    database: database.url,
    temporal,
    stores: { main: store },
    datasets: { [dataset]: { stores: ['main'], indexes: INDEXES } },
  }
  const write = (content: ConfigInput) => writeFile(join(folder.path, 'snapflip.config.json'), JSON.stringify(content))
  await write(definition)
  await database.pool.query(PRODUCTS)
  return {
    folder: folder.path,
    database,
    temporal,
    dataset,
    definition,
    define: (change) => write(change(structuredClone(definition))),
    run: (args, options = {}) => snapflip(args, { cwd: folder.path, ...options }),
    start: (args) => startSnapflip(args, { cwd: folder.path }),
  }
}

/** Snapflip's tables as before their last migration. */
export async function leaveViewsOut({ database }: Project): Promise<void> {
  const views = VIEWER_READS.map((name) => `snapflip.${name}`).join(', ')
  await database.pool.query(`drop view ${views}; delete from snapflip.migrations where name = '0013_views'`)
}

/** The definition with other indexes. */
export function withIndexes(indexes: Record<string, unknown>) {
  return (definition: ConfigInput): ConfigInput => ({
    ...definition,
    datasets: Object.fromEntries(
      Object.entries(definition.datasets).map(([name, dataset]) => [name, { ...dataset, indexes } as typeof dataset]),
    ),
  })
}
