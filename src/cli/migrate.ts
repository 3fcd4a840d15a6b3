import type { Command } from 'commander'
import { migrationsPending, migrate as runMigrations } from '../registry/migrate.ts'
import type { Session } from './session.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  dryRun?: boolean
}

export function migrate(program: Command): void {
  verb(program, {
    usage: 'migrate',
    summary: "bring snapflip's tables in PostgreSQL up to this version; again does nothing",
    examples: [
      ['snapflip migrate', 'in one transaction, whoever else migrates'],
      ['snapflip migrate --dry-run', 'only says what is missing'],
    ],
  })
    .option('--dry-run', 'say what would be run')
    .action(act<Options>(run))
}

async function run(session: Session, { dryRun }: Options): Promise<Answer> {
  // Says what is wrong with the server before anything is tried on it.
  const pool = await session.database()
  if (dryRun) {
    const pending = await migrationsPending(pool)
    return { json: { pending }, text: pending.length === 0 ? 'Nothing to do.' : `To run: ${pending.join(', ')}.` }
  }
  const run = await runMigrations((await session.config()).database)
  return { json: { run }, text: run.length === 0 ? 'Nothing to do.' : `Run: ${run.join(', ')}.` }
}
