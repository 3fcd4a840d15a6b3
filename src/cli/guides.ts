import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { InvalidArgumentError } from 'commander'
import type { Config } from '../../schemas/config.ts'
import { agentGuide } from './agent-guide.ts'
import { incidentRunbook } from './incident-runbook.ts'
import { withSection } from './marked-section.ts'

/** In the user's repository, beside the definition. */
const RUNBOOK = 'runbooks/snapflip-incident.md'

/** Where each assistant looks for its instructions, and what has to stand before ours when we make the file. */
const AGENTS = {
  claude: { file: 'CLAUDE.md', head: '' },
  cursor: {
    file: '.cursor/rules/snapflip.mdc',
    head: "---\ndescription: 'snapflip: refresh policy, words, what may not be done, incidents'\nalwaysApply: true\n---\n\n",
  },
} as const
export type AgentName = keyof typeof AGENTS

export interface Guide {
  file: string
  text: string
  change: 'written' | 'updated' | 'kept'
}

/** Parses `--agents claude,cursor`. */
export function agentNames(list: string): AgentName[] {
  const names = [...new Set(list.split(',').map((name) => name.trim()))]
  const unknown = names.find((name) => !Object.hasOwn(AGENTS, name))
  if (unknown !== undefined) {
    throw new InvalidArgumentError(
      `Expected names of ${Object.keys(AGENTS).join(', ')}, separated by commas, found ${JSON.stringify(unknown)}.`,
    )
  }
  return names as AgentName[]
}

/** What each guide would be, filled in from the definition. Nothing is written yet. */
export async function plannedGuides(
  folder: string,
  config: Pick<Config, 'datasets'>,
  agents: readonly AgentName[],
): Promise<Guide[]> {
  const guide = agentGuide(config, { runbook: RUNBOOK })
  const wanted = [
    { file: RUNBOOK, head: '', section: incidentRunbook(config) },
    ...agents.map((name) => ({ ...AGENTS[name], section: guide })),
  ]
  return await Promise.all(
    wanted.map(async ({ file: name, head, section }): Promise<Guide> => {
      const file = join(folder, name)
      const found = await readFile(file, 'utf8').catch(unlessMissing)
      const text = withSection(found ?? head, section, file)
      return { file, text, change: found === null ? 'written' : found === text ? 'kept' : 'updated' }
    }),
  )
}

export async function writeGuides(guides: readonly Guide[]): Promise<void> {
  for (const { file, text, change } of guides) {
    if (change === 'kept') continue
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
}

function unlessMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}
