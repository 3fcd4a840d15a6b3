import type { DatasetDefinition } from '../../schemas/config.ts'

/** What a dataset's definition says of its refreshes, a sentence each. */
export function policyLines({ schedule, gates, keep, stores }: DatasetDefinition): string[] {
  const { inserted, updated, deleted } = gates.changeVolume
  return [
    schedule === undefined ? 'refreshed when somebody asks' : `refreshed ${whenOf(schedule)}`,
    `a change beyond these shares of an index: inserted ${inserted.percent} % ${inserted.verdict}, updated ${updated.percent} % ${updated.verdict}, deleted ${deleted.percent} % ${deleted.verdict}`,
    `drift between source and version: ${gates.drift.mode === 'off' ? 'not looked at' : gates.drift.mode === 'full' ? 'every entry compared' : `${gates.drift.sample} entries compared`}`,
    `in ${stores.join(', ')}; ${keep} versions kept`,
  ]
}

function whenOf({ cron, everyMs, timezone }: NonNullable<DatasetDefinition['schedule']>): string {
  if (cron !== undefined) return `at \`${[cron].flat().join('`, `')}\` (${timezone})`
  return `every ${(everyMs ?? 0) / 1000} s`
}
