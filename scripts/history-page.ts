import { readFile, writeFile } from 'node:fs/promises'
import { HISTORY_KINDS } from '../src/core/history-kinds.ts'

const PAGE = new URL('../docs/history.md', import.meta.url)
const BETWEEN = /(?<=<!-- kinds: node scripts\/history-page\.ts -->\n\n).*?(?=\n\n<!-- \/kinds -->)/s

/** The page of the history with its table of kinds made anew; `test/core/history-kinds.test.ts` holds the two equal. */
export function historyPage(page: string): string {
  const rows = Object.entries(HISTORY_KINDS).map(
    ([kind, { says, detail }]) => `| \`${kind}\` | ${says} | ${detail.join(', ')} |`,
  )
  return page.replace(BETWEEN, () => `| kind | what happened | detail |\n|---|---|---|\n${rows.join('\n')}`)
}

if (import.meta.main) await writeFile(PAGE, historyPage(await readFile(PAGE, 'utf8')))
