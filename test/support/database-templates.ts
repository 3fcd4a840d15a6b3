import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const MIGRATE_MODULE = new URL('../../src/registry/migrate.ts', import.meta.url)

type Server = { url: string; urlOf(database: string): string }

/**
 * Makes the two databases that `testDatabase` clones: one empty, one with snapflip's migrations run by
 * `migrate(url)` of src/registry/migrate.ts.
 */
export async function makeTemplates(server: Server): Promise<{ bare: string; migrated: string }> {
  const templates = { bare: 'template_bare', migrated: 'template_migrated' }
  const admin = new pg.Client({ connectionString: server.url })
  await admin.connect()
  try {
    for (const name of Object.values(templates)) await admin.query(`create database ${name} template template0`)
  } finally {
    await admin.end()
  }
  if (existsSync(MIGRATE_MODULE)) {
    const { migrate } = (await import(fileURLToPath(MIGRATE_MODULE))) as { migrate(url: string): Promise<unknown> }
    await migrate(server.urlOf(templates.migrated))
  }
  return templates
}
