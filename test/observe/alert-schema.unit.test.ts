import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { alertJsonSchema } from '../../scripts/alert-schema.ts'
import { SnapflipError } from '../../src/core/errors.ts'
import { parseConfig } from '../../src/load-config.ts'
import { RUNBOOKS } from '../../src/observe/alert.ts'

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8')

it('the JSON Schema of an alert is the one that the package ships', async () => {
  expect(await read('schemas/alert.schema.json')).toBe(alertJsonSchema())
})

it.each(Object.entries(RUNBOOKS))('%s is on the page of alerts, with its runbook', async (kind, runbook) => {
  expect(await read('docs/alerts.md')).toMatch(new RegExp(`^\\| \`${kind}\` \\|.*\\(\\.\\./${runbook}\\) \\|$`, 'm'))
})

const withSinks = (sinks: unknown, more: object = {}) => ({
  database: 'postgres://localhost/shop',
  stores: { hot: 'redis://localhost:6379/0' },
  datasets: {
    shop: { stores: ['hot'], indexes: { products: { from: 'public.products', key: 'id', value: ['name'] } } },
  },
  alerts: { sinks, ...more },
})
const PAGER = { kind: 'webhook', url: 'https://pager.example.com/geheim', secretEnv: 'PAGER_SECRET' }

describe('the section of alerts', () => {
  it('may be left out', () => {
    const { alerts: _, ...without } = withSinks({})
    expect(parseConfig(without, 'x').alerts).toEqual({ sinks: {} })
  })

  it('takes the three kinds of sinks', () => {
    const sinks = {
      pager: { ...PAGER, kinds: ['VERIFY_FAILED'], datasets: ['shop'] },
      bridge: { ...PAGER, url: 'http://Bridge.internal:8080/', allowHosts: ['BRIDGE.internal'] },
      six: { ...PAGER, url: 'http://[::1]:8080/', allowHosts: ['[::1]'] },
      chat: { kind: 'slack', urlEnv: 'CHAT_URL' },
      lines: { kind: 'log' },
    }
    expect(Object.keys(parseConfig(withSinks(sinks), 'x').alerts.sinks)).toEqual(Object.keys(sinks))
  })

  it.each<[what: string, sink: unknown, expected: string]>([
    ['an unknown kind', { kind: 'pager' }, 'alerts.sinks.a.kind: expected "webhook", "slack" or "log", found "pager"'],
    ['no kind', {}, 'alerts.sinks.a.kind: expected "webhook", "slack" or "log", found nothing'],
    ['http', { ...PAGER, url: 'http://a.example/geheim' }, 'url: expected an https URL (http only where allowHosts'],
    ['a private address', { ...PAGER, url: 'https://10.1/geheim' }, 'url: expected a public address'],
    ['credentials in a URL', { ...PAGER, url: 'https://geheim@a.example/' }, 'url: expected a URL without user and'],
    ['no URL', { ...PAGER, url: 'geheim' }, 'url: expected a URL, found another text'],
    ['no secret', { ...PAGER, secretEnv: undefined }, 'secretEnv: expected a text, found nothing'],
    ['a secret itself', { ...PAGER, secretEnv: 'geheim/+' }, 'secretEnv: expected the name of an environment variable'],
    [
      'a secret beside its name',
      { ...PAGER, secret: 'x' },
      'expected no other keys than snapflip knows, found "secret"',
    ],
    ["Slack's URL itself", { kind: 'slack', urlEnv: 'https://hooks.slack.com/geheim' }, 'urlEnv: expected the name of'],
    [
      'a host with its port',
      { ...PAGER, allowHosts: ['a.example:80'] },
      'allowHosts[0]: expected a host name or address',
    ],
    ['every host', { ...PAGER, allowHosts: ['*'] }, 'allowHosts[0]: expected a host name or address'],
    ['an unknown alert', { ...PAGER, kinds: ['VERIFY'] }, 'kinds[0]: expected "VERIFY_FAILED" or '],
    [
      'an unknown dataset',
      { ...PAGER, datasets: ['shp'] },
      'datasets[0]: expected a name of `datasets` (shop), found "shp"',
    ],
    [
      'no datasets at all',
      { ...PAGER, datasets: [] },
      'datasets: expected a list that is not empty, found an empty list',
    ],
  ])('refuses %s, and shows no secret', (_what, sink, expected) => {
    let refused: unknown
    try {
      parseConfig(withSinks({ a: sink }), 'x.json')
    } catch (error) {
      refused = error
    }
    expect(refused).toBeInstanceOf(SnapflipError)
    expect(refused).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(expected) })
    expect((refused as Error).message).not.toContain('geheim')
  })

  it.each([
    [
      { 'a b': PAGER },
      {},
      'alerts.sinks.a b: expected a name of letters, digits, _ and -, starting with a letter, at most 63 long, found "a b"',
    ],
    [{}, { runbooks: 'pages' }, 'alerts.runbooks: expected a URL of http or https, found "pages"'],
  ])('refuses %j, %j', (sinks, more, expected) => {
    expect(() => parseConfig(withSinks(sinks, more), 'x.json')).toThrow(expected)
  })
})
