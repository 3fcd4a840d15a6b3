import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { incidentSchema } from '../../schemas/incident.ts'
import { historyPage } from '../../scripts/history-page.ts'
import { HISTORY_KINDS, isKindOrGroup } from '../../src/core/history-kinds.ts'

const page = await readFile(new URL('../../docs/history.md', import.meta.url), 'utf8')

test('the page of the history lists every kind of entry as it is declared', () => {
  expect(page).toContain('<!-- /kinds -->')
  expect(historyPage(page)).toBe(page)
  expect(historyPage(page.replace('| `unpin` |', '| `unpinned` |'))).toBe(page)
})

test('the page of the history names every part of an exported incident', () => {
  const told = page.slice(page.indexOf('\n## An incident'))
  for (const part of Object.keys(incidentSchema.shape)) expect(told, part).toContain(`\`${part}\``)
})

test('entries are asked for by a kind, or by what comes before its dot', () => {
  for (const kind of Object.keys(HISTORY_KINDS)) expect(isKindOrGroup(kind.replace('.*', '.gate_refused'))).toBe(true)
  for (const group of ['flip', 'version', 'alert', 'hold']) expect(isKindOrGroup(group)).toBe(true)
  for (const other of ['', 'fli', 'flip.', 'holds', 'flip.confirmed.x']) expect(isKindOrGroup(other)).toBe(false)
})
