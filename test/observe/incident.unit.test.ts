import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { incidentJsonSchema } from '../../scripts/incident-schema.ts'
import { incidentPage } from '../../src/core/incident-page.ts'

it('the JSON Schema of an exported incident is that of what is written', async () => {
  const file = new URL('../../schemas/incident.schema.json', import.meta.url)
  expect(await readFile(file, 'utf8')).toBe(incidentJsonSchema())
})

it('what people typed ends no cell of the page, and is neither link nor element', () => {
  const page = incidentPage({
    format: 1,
    exportedAt: '2026-05-18T10:00:00.000Z',
    dataset: 'shop',
    flipId: null,
    since: '2026-05-18T09:00:00.000Z',
    until: '2026-05-18T10:00:00.000Z',
    timeline: [
      {
        seq: 1,
        at: '2026-05-18T09:30:00.000Z',
        dataset: 'shop',
        actor: 'ana',
        kind: 'hold',
        version: null,
        detail: { reason: 'a | b\n# [x](http://x) <script>' },
        hash: '00',
      },
    ],
    cut: ['refreshes'],
    missing: [{ part: 'the anchor of shop in main', why: 'it | does not answer' }],
    movements: [],
    refreshes: [],
    versions: [],
    alerts: [],
    metrics: [],
    chain: { verified: false, found: 'entry 7 was edited' },
  })
  expect(page).toContain('| 2026-05-18T09:30:00.000Z | hold | - | ana | a \\| b # \\[x\\](http://x) \\<script\\> |')
  expect(page).toContain('**The chain of the history does not verify**: entry 7 was edited')
  expect(page).toContain('**Not asked: the anchor of shop in main**: it \\| does not answer')
  expect(page).toContain('**There were more than fit, and the oldest are left out, of**: refreshes.')
  expect(page).toContain('## Alerts\n\nNone.')
})
