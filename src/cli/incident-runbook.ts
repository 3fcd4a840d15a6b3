import type { Config, DatasetDefinition } from '../../schemas/config.ts'

/**
 * What to do in an incident, with the names of the user's own datasets filled in: Markdown for the user's repository. Commands are those of
 * `runbooks/`, which has a page for each alert.
 */
export function incidentRunbook({ datasets }: Pick<Config, 'datasets'>): string {
  return `# snapflip: when served data is wrong

**The tempting wrong move** is to refresh again and hope, or to correct entries in the store. A refresh builds the same bad data again while
the source is wrong; an entry changed by hand has another checksum than its block, so every reader refuses it.

Readers first, reasons later. A rollback needs no build and no source, works while a refresh runs, and stays: it quarantines the version that
readers leave and puts the dataset on hold.

${Object.entries(datasets).map(section).join('\n\n')}

## Afterwards

1. Correct the cause: the rows in PostgreSQL, or the definition (\`npx snapflip plan\`, \`npx snapflip apply\`). A limit that should have refused
   the version is part of the definition; never loosen one to get a version through: that is what a waiver is for.
2. Lift the hold, refresh, look.
3. Keep what happened, from when it began: \`npx snapflip incident export --since 2026-05-18T09:00:00Z --out incident.json\`.
`
}

function section([name, dataset]: [string, DatasetDefinition]): string {
  const [index = 'index'] = Object.keys(dataset.indexes)
  return `## ${name}

Indexes: ${Object.keys(dataset.indexes).join(', ')}. Stores: ${dataset.stores.join(', ')}. The last ${dataset.keep} versions are kept to go back to.

\`\`\`sh
npx snapflip status ${name}                          # which version, since when, on hold or not
npx snapflip rollback ${name} --reason "why"         # to the version before; --to TAG for an older one of \`versions\`
npx snapflip rollback ${name} --direct --reason "why" # when Temporal is down, or PostgreSQL too
npx snapflip verify ${name}                          # what readers get now: every block read
npx snapflip history ${name} --limit 20              # who did what
npx snapflip explain ${name} ${index} KEY            # where one value comes from
\`\`\`

When the cause is corrected:

\`\`\`sh
npx snapflip resume ${name} --keep-quarantine --reason "what was corrected"
npx snapflip refresh ${name}
npx snapflip verify ${name} --rebuild                # proves the version against the source
\`\`\``
}
