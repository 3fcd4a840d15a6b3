import type { DatasetDefinition } from '../../schemas/config.ts'

/** What a dataset's definition says of its refreshes, a sentence each. */
export function policyLines({ schedule, gates, canary, bake, keep, stores }: DatasetDefinition): string[] {
  const { inserted, updated, deleted } = gates.changeVolume
  return [
    schedule === undefined ? 'refreshed when somebody asks' : `refreshed ${whenOf(schedule)}`,
    `a change beyond these shares of an index: inserted ${inserted.percent} % ${inserted.verdict}, updated ${updated.percent} % ${updated.verdict}, deleted ${deleted.percent} % ${deleted.verdict}`,
    `drift between source and version: ${gates.drift.mode === 'off' ? 'not looked at' : gates.drift.mode === 'full' ? 'every entry compared' : `${gates.drift.sample} entries compared`}`,
    ...(canary === undefined ? [] : [`canary: ${canaryOf(canary)}`]),
    ...(bake === undefined
      ? []
      : [
          `bake: watched for ${bake.forMs / 1000} s after the flip; the next flip ${bake.whileBaking === 'wait' ? 'waits for that' : 'ends that'}`,
        ]),
    `in ${stores.join(', ')}; ${keep} versions kept`,
  ]
}

function canaryOf({ share, ramp, forMs, probe, verdict }: NonNullable<DatasetDefinition['canary']>): string {
  if (probe.only) return `${probe.keys} keys of each index read on both versions; worse: ${verdict}`
  const shares = [share, ...ramp].map((part) => `${part * 100} %`).join(', then ')
  return `${shares} of the readers first, for ${forMs / 1000} s; worse: ${verdict}`
}

function whenOf({ cron, everyMs, timezone }: NonNullable<DatasetDefinition['schedule']>): string {
  if (cron !== undefined) return `at \`${[cron].flat().join('`, `')}\` (${timezone})`
  return `every ${(everyMs ?? 0) / 1000} s`
}
