import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { METRICS, type MetricDeclaration } from '../../src/core/metrics.ts'

const root = new URL('../../', import.meta.url)
const declared = new Map(Object.entries<MetricDeclaration>(METRICS))

interface Rule {
  alert: string
  expr: string
  annotations: { summary: string; runbook: string }
}
const rules = (
  parse(await readFile(new URL('docs/prometheus-rules.yml', root), 'utf8')) as { groups: { rules: Rule[] }[] }
).groups.flatMap((group) => group.rules)

interface Panel {
  title: string
  type: string
  targets?: { expr: string; legendFormat: string }[]
}
const dashboard = JSON.parse(await readFile(new URL('docs/grafana-dashboard.json', root), 'utf8')) as {
  panels: Panel[]
  templating: { list: { definition?: string }[] }
}
const panels = dashboard.panels.filter(({ type }) => type !== 'row')

/** A metric that an expression uses, without what a histogram appends to its name. */
function metricOf(used: string): [name: string, suffix: string] {
  const [, name = '', suffix = ''] = /^(.*?)(_bucket|_count|_sum)?$/.exec(used) ?? []
  return declared.get(name)?.kind === 'histogram' ? [name, suffix] : [used, '']
}

/** What is wrong with an expression: metrics that do not exist, labels that these do not have, an histogram used as a number. */
function faultsOf(expr: string, texts: readonly string[] = []): string[] {
  const faults: string[] = []
  const labels = new Set<string>()
  const selectors = [...expr.matchAll(/\b(snapflip_[a-z_]+)(?:\{([^}]*)\})?/g)]
  if (selectors.length === 0) faults.push(`no metric in ${expr}`)
  for (const [, used = '', matchers = ''] of selectors) {
    const [name, suffix] = metricOf(used)
    const metric = declared.get(name)
    if (metric === undefined) faults.push(`there is no metric ${used}`)
    else if ((metric.kind === 'histogram') !== (suffix !== '')) faults.push(`${used} is not a series of ${name}`)
    else if (suffix === '_sum' && metric.from === 'reader') faults.push(`readers export no ${used}`)
    for (const label of metric?.labels ?? []) labels.add(label)
    if (suffix === '_bucket') labels.add('le')
    for (const [, label = ''] of matchers.matchAll(/([a-z_]+)\s*(?:=~|!~|!=|=)/g))
      if (!metric?.labels.includes(label)) faults.push(`${used} has no label ${label}`)
  }
  const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(/,\s*/))
  const told = texts.flatMap((text) =>
    [...text.matchAll(/\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}/g)].map(([, label = '']) => label),
  )
  for (const label of [...grouped, ...told])
    if (!labels.has(label)) faults.push(`none of its metrics has a label ${label}: ${expr}`)
  return faults
}

describe('the alert rules', () => {
  it.each(rules.map((rule) => [rule.alert, rule] as const))(
    '%s uses metrics and labels that exist, and names its runbook',
    (_name, rule) => {
      expect(faultsOf(rule.expr, [rule.annotations.summary])).toEqual([])
      expect(rule.annotations.runbook).toMatch(/^runbooks\/[a-z0-9-]+\.md$/)
      expect(existsSync(new URL(rule.annotations.runbook, root)), rule.annotations.runbook).toBe(true)
    },
  )

  it('compare staleness with the budget that is declared', () => {
    const compared = rules.filter(({ expr }) => /snapflip_(staleness|refresh_running)_seconds/.test(expr))
    expect(compared.map(({ alert }) => alert)).toEqual([
      'SnapflipStale',
      'SnapflipStalenessHalfUsed',
      'SnapflipRefreshBeyondBudget',
    ])
    for (const { expr } of compared) expect(expr).toMatch(/_seconds\) > .*snapflip_staleness_budget_seconds/)
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length)
  })
})

describe('the dashboard', () => {
  it.each(panels.map((panel) => [panel.title, panel] as const))(
    '%s uses metrics and labels that exist',
    (_title, panel) => {
      expect(panel.targets?.length).toBeGreaterThan(0)
      for (const { expr, legendFormat } of panel.targets ?? []) expect(faultsOf(expr, [legendFormat])).toEqual([])
    },
  )

  it('shows every metric there is, and chooses among datasets by one of them', () => {
    const shown = panels.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => [...expr.matchAll(/\bsnapflip_[a-z_]+/g)].map(([used]) => metricOf(used)[0])),
    )
    expect([...new Set(shown)].sort()).toEqual([...declared.keys()].sort())
    for (const { definition } of dashboard.templating.list)
      if (definition !== undefined) expect(faultsOf(definition)).toEqual([])
  })
})

it('a metric that does not exist, a label it does not have, and a histogram without its suffix are found', () => {
  expect(faultsOf('snapflip_nothing')).toEqual(['there is no metric snapflip_nothing'])
  expect(faultsOf('snapflip_on_hold{tag="x"}')).toEqual(['snapflip_on_hold has no label tag'])
  expect(faultsOf('sum by (tag) (snapflip_on_hold)')).toHaveLength(1)
  expect(faultsOf('snapflip_on_hold', ['{{key}}'])).toHaveLength(1)
  expect(faultsOf('snapflip_step_duration_seconds')).toHaveLength(1)
  expect(faultsOf('up')).toHaveLength(1)
})
