import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const MIGRATE_MODULE = fileURLToPath(new URL('../../src/registry/migrate.ts', import.meta.url))

type Server = { url: string; urlOf(database: string): string }

export type Templates = {
  /** A template without anything in it. */
  bare: string
  /** A template with the registry's tables. */
  migrated: string
  /** Why `migrated` cannot be used; tests of bare databases go on. */
  migrationError?: string
}

/** Makes the two databases that `testDatabase` clones, one of them by `migrate(url)` of src/registry/migrate.ts. */
export async function makeTemplates(server: Server): Promise<Templates> {
  const templates = { bare: 'template_bare', migrated: 'template_migrated' }
  const admin = new pg.Client({ connectionString: server.url })
  await admin.connect()
  try {
    for (const name of Object.values(templates)) await admin.query(`create database ${name} template template0`)
  } finally {
    await admin.end()
  }
  if (!existsSync(MIGRATE_MODULE)) return templates
  try {
    const { migrate } = (await import(MIGRATE_MODULE)) as { migrate(url: string): Promise<unknown> }
    await migrate(server.urlOf(templates.migrated))
    return templates
  } catch (error) {
    return { ...templates, migrationError: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}
