import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { datasetSchema } from '../../schemas/config.ts'
import { agentGuide } from '../../src/cli/agent-guide.ts'
import { incidentRunbook } from '../../src/cli/incident-runbook.ts'

export const root = fileURLToPath(new URL('../..', import.meta.url))
const pages = [
  'README.md',
  ...(await readdir(join(root, 'docs'))).map((name) => `docs/${name}`),
  ...(await readdir(join(root, 'runbooks'), { recursive: true })).map((name) => `runbooks/${name}`),
].filter((name) => name.endsWith('.md'))

/** The pages for a symptom. */
export const runbooks = pages.filter(
  (name) => /^runbooks\/[^/]+$/.test(name) && !['runbooks/errors.md', 'runbooks/release-notes.md'].includes(name),
)

/** A command line quoted on a page. One in a block is run as it stands; one in a sentence may leave out what the sentence is not about. */
export interface Quoted {
  page: string
  line: string
  whole: boolean
}

/** What `init` writes into a user's repository. */
const shop = { datasets: { shop: datasetSchema.parse({ stores: ['main'], indexes: { events: { events: true } } }) } }
const written = {
  "init's incident runbook": incidentRunbook(shop),
  "init's CLAUDE.md": agentGuide(shop, { runbook: 'runbooks/snapflip-incident.md' }),
}

export const quoted: Quoted[] = []
const texts = await Promise.all(pages.map(async (page) => [page, await readFile(join(root, page), 'utf8')] as const))
for (const [page, text] of [...texts, ...Object.entries(written)]) {
  for (const [, block = ''] of text.matchAll(/^[ \t]*```[a-z]*\n([\s\S]*?)^[ \t]*```/gm)) {
    for (const [, line = ''] of block.matchAll(/^[ \t]*(?:\$ )?(?:npx )?(snapflip (?!:).*)$/gm))
      quoted.push({ page, line, whole: true })
  }
  const prose = text.replace(/^[ \t]*```[\s\S]*?^[ \t]*```/gm, '')
  for (const [, line = ''] of prose.matchAll(/`(?:npx )?(snapflip [^`]+)`/g)) quoted.push({ page, line, whole: false })
}

/** The words as a shell would give them, without a comment at the end. */
export function wordsOf(line: string): string[] {
  const words = [...line.matchAll(/"([^"]*)"|(#.*)|(\S+)/g)].filter(([, , comment]) => comment === undefined)
  return words.map(([, inQuotes, , bare]) => inQuotes ?? bare ?? '').filter((word) => word !== '&')
}
