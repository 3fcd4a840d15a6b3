import type { DatasetDefinition } from '../../schemas/config.ts'

/** What a dataset's definition says of its refreshes, a sentence each. */
export function policyLines(dataset: DatasetDefinition): string[] {
  const { schedule, windows, gates, approval, canary, bake, ttl, roles, may, keep, stores } = dataset
  const { inserted, updated, deleted } = gates.changeVolume
  return [
    schedule === undefined ? 'refreshed when somebody asks' : `refreshed ${whenOf(schedule)}`,
    `a change beyond these shares of an index: inserted ${inserted.percent} % ${inserted.verdict}, updated ${updated.percent} % ${updated.verdict}, deleted ${deleted.percent} % ${deleted.verdict}`,
    `drift between source and version: ${gates.drift.mode === 'off' ? 'not looked at' : gates.drift.mode === 'full' ? 'every entry compared' : `${gates.drift.sample} entries compared`}`,
    ...(windows === undefined ? [] : [windowsOf(windows)]),
    ...(approval === undefined || approval.when === 'never' ? [] : [approvalOf(approval)]),
    ...(gates.user === undefined ? [] : [`gates of its own: ${Object.keys(gates.user).join(', ')}`]),
    ...(canary === undefined ? [] : [`canary: ${canaryOf(canary)}`]),
    ...(bake === undefined
      ? []
      : [
          `bake: watched for ${bake.forMs / 1000} s after the flip; the next flip ${bake.whileBaking === 'wait' ? 'waits for that' : 'ends that'}`,
        ]),
    ...(ttl === undefined
      ? []
      : [
          `older than ${ttl.budgetMs / 1000} s it is ${ttl.beyond === 'mark' ? 'served with a mark' : 'refused'}, and reported`,
        ]),
    roles === undefined
      ? 'whoever may connect to the database may do everything'
      : `who may: ${Object.entries(roles)
          .map(([role, actors = []]) => `${role} ${actors.join(', ')}`)
          .join('; ')} (approve: ${may.approve}, roll back: ${may.rollback}, waive: ${may.waive})`,
    `in ${stores.join(', ')}; ${keep} versions kept`,
  ]
}

function approvalOf({ when, expiresAfterMs }: NonNullable<DatasetDefinition['approval']>): string {
  const what = when === 'always' ? 'every version' : 'what a gate holds'
  return `${what} waits for an approval by another than who asked, for ${expiresAfterMs / 3_600_000} h`
}

function canaryOf({ share, ramp, forMs, probe, verdict }: NonNullable<DatasetDefinition['canary']>): string {
  if (probe.only) return `${probe.keys} keys of each index read on both versions; worse: ${verdict}`
  const shares = [share, ...ramp].map((part) => `${part * 100} %`).join(', then ')
  return `${shares} of the readers first, for ${forMs / 1000} s; worse: ${verdict}`
}

function windowsOf({ open, blackout, timezone, outside }: NonNullable<DatasetDefinition['windows']>): string {
  const spans = (open ?? []).map(({ days, from, to }) => `${days?.join(', ') ?? 'every day'} ${from} to ${to}`)
  const closed = blackout.map((span) =>
    'from' in span
      ? `${span.days?.join(', ') ?? 'every day'} ${span.from} to ${span.to}`
      : `${span.starts} to ${span.ends}`,
  )
  const told = [
    ...(spans.length === 0 ? [] : [`within ${spans.join('; ')}`]),
    ...(closed.length === 0 ? [] : [`never ${closed.join('; ')}`]),
  ]
  return `${told.join('; ')} (${timezone}); outside it ${outside === 'wait' ? 'waits' : 'is skipped'}`
}

function whenOf({ cron, everyMs, continuous, timezone }: NonNullable<DatasetDefinition['schedule']>): string {
  if (continuous !== undefined)
    return `as soon as there is something new, at most every ${continuous.atMostEveryMs / 1000} s`
  if (cron !== undefined) return `at \`${[cron].flat().join('`, `')}\` (${timezone})`
  return `every ${(everyMs ?? 0) / 1000} s`
}
