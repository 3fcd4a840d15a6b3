import type { Command } from 'commander'
import { lookAtAlerts } from './alerts-checks.ts'
import type { Check } from './check.ts'
import { grantsText } from './grants.ts'
import { lookAtPostgres } from './postgres-checks.ts'
import { hideCredentials } from './print-error.ts'
import type { Session } from './session.ts'
import { lookAtStores } from './store-checks.ts'
import { table } from './table.ts'
import { lookAtTemporal } from './temporal-checks.ts'
import { type Answer, act, type CommonOptions, verb } from './verb.ts'

interface Options extends CommonOptions {
  grants?: boolean
}

export function doctor(program: Command): void {
  verb(program, {
    usage: 'doctor',
    summary:
      'look at everything a refresh needs and say what to do about what is not well; exit code 0 only when all is',
    examples: [
      ['snapflip doctor', 'definition, PostgreSQL, capture, stores, Temporal, worker'],
      ['snapflip doctor --grants', 'prints SQL for the roles and a Redis ACL for readers'],
    ],
  })
    .option('--grants', 'print the roles for capture, worker and reader instead')
    .action(act<Options>(run))
}

async function run(session: Session, options: Options): Promise<Answer> {
  // Without a definition there is nothing to look at.
  await session.config()
  if (options.grants) {
    const grants = await grantsText(session)
    return { json: grants, text: Object.values(grants).join('\n') }
  }
  const checks: Check[] = [
    ...(await lookAtPostgres(session)),
    ...(await lookAtStores(session)),
    ...(await lookAtTemporal(session)),
    ...(await lookAtAlerts(session)),
  ]
  const sick = checks.filter(({ ok }) => !ok)
  const rows = checks.map(({ check, ok, found }) => [
    ok ? 'ok' : 'NOT OK',
    check,
    hideCredentials(ok ? found : (found.split('\n')[0] ?? '')),
  ])
  const lines = [table(['', 'what', 'found'], rows)]
  if (sick.length > 0) {
    lines.push('', 'To do:')
    for (const { check, found, todo } of sick) lines.push(`  ${check}: ${hideCredentials(todo ?? found)}`)
  } else lines.push('', 'All is well.')
  const code = sick[0]?.code ?? null
  return {
    json: { ok: sick.length === 0, checks, ...(code === null ? {} : { code }) },
    text: lines.join('\n'),
    ...(code === null ? {} : { code }),
  }
}
