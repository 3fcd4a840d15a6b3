import type { Config, DatasetDefinition } from '../../schemas/config.ts'
import { declaredOptions } from './definition-defaults.ts'
import { policyLines } from './policy-lines.ts'

/** What an assistant that works in the user's repository must know of snapflip: the one source of CLAUDE.md's section and Cursor's rules. */
export function agentGuide({ datasets }: Pick<Config, 'datasets'>, { runbook }: { runbook: string }): string {
  return `# snapflip

This repository keeps index versions with snapflip: immutable, checked snapshots of PostgreSQL data, which readers get from a store through one
pointer. \`snapflip.config.ts\` is the definition; it is also the refresh policy, and changes only by \`npx snapflip plan\` and \`npx snapflip apply\`.

## Words

- **dataset**: what is refreshed, flipped and rolled back as one. **index**: a keyed view in it.
- **version**: one immutable build, tagged \`vYYYYMMDD-NN\`. **pointer**: names the active one.
- **flip**, **rollback**: move the pointer forward, back to a kept version.
- **approval**: a person's yes, by another than who asked. **canary**: some readers get a version first. **bake**: the watch over it after the flip.
- **gate**: a check that a version passes before the flip; its evidence is in \`npx snapflip show DATASET TAG\`.
- **hold**: no refreshes until \`resume\`. **quarantine**: a version that is never flipped to. **waiver**: a person's permission to pass one gate.

## Refresh policy

${Object.entries(datasets).map(policy).join('\n')}

## What may not be done

- No write to the stores or to the schema \`snapflip\` by hand: not a key, not a file, not a row. Every block has a checksum, and the history is a
  hash chain: it shows.
- No change of limits in the definition to get one version through. A person with the role waives one gate for one version:
  \`npx snapflip waive DATASET TAG GATE --until 2026-05-19 --reason TEXT\`.
- No \`approve\`, \`reject\`, \`waive\`, \`release\`, \`resume\`, \`flip\`, \`pin\`, \`quarantine\`, \`history accept\`, \`rollback --direct\` or \`refresh --outside-window\` on one's own: these are a person's decisions, and are recorded as theirs.
- No trigger of the schema \`snapflip\` disabled around a bulk load: the next refresh then builds all anew.
- No \`apply --move\` unless moving the data is what was asked for.

## In an incident

Follow [${runbook}](${runbook}). Readers first: say which version is served (\`npx snapflip status DATASET\`), propose the rollback with its command, and
let a person run it. Then look for the cause: \`npx snapflip history DATASET\`, \`npx snapflip diff DATASET TAG TAG\`, \`npx snapflip explain DATASET INDEX KEY\`.
These only read, as do \`plan\`, \`show\`, \`versions\`, \`served-at\`, \`verify\` and \`doctor\`; all take \`--json\`.
`
}

function policy([name, dataset]: [string, DatasetDefinition]): string {
  return [
    `- **${name}** (${Object.keys(dataset.indexes).join(', ')})`,
    ...policyLines(dataset).map((line) => `  - ${line}`),
    ...rulesOf(dataset).map(({ path, after }) => `  - \`${path}: ${JSON.stringify(after)}\``),
  ].join('\n')
}

/** Of each index: what it holds. All else that is declared is a rule. */
const HOLDS = /^indexes\.[^.]+\.(from|key|value|where|many|order|events)$/

/** By path, as `plan` shows them: the sentences name the main ones alone. */
function rulesOf(dataset: DatasetDefinition) {
  return declaredOptions(dataset).filter(({ path }) => path !== 'stores' && !HOLDS.test(path))
}
