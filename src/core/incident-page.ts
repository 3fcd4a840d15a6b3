import type { Incident } from '../../schemas/incident.ts'

/** Of a text in a table. */
const CHARS_MAX = 200

/** An exported incident for people: Markdown, with what happened in one table and what is asked first above it. */
export function incidentPage(incident: Incident): string {
  const { dataset, flipId, since, until, exportedAt, movements, refreshes, versions, alerts, timeline, chain } =
    incident
  const { cut, missing } = incident
  const about = `${dataset ?? 'all datasets'}${flipId === null ? '' : `, flip ${flipId}`}`
  return [
    `# Incident: ${about}`,
    `From ${since} until ${until}. Exported at ${exportedAt}.`,
    chain.verified
      ? `The chain of the history verifies: ${chain.entries} entries, last hash ${chain.hash}, compared with ${chain.anchors} anchors in stores.`
      : `**The chain of the history does not verify**: ${chain.found}`,
    ...(chain.verified ? chain.accepted : []).map(
      ({ seq, hash, by, at, reason }) =>
        `It does not lead to the anchor ${seq}:${hash}, which ${by} accepted at ${at}: ${cell(reason)}`,
    ),
    ...missing.map(({ part, why }) => `**Not asked: ${cell(part)}**: ${cell(why)}`),
    ...(cut.length === 0 ? [] : [`**There were more than fit, and the oldest are left out, of**: ${cut.join(', ')}.`]),
    '## Times',
    table(
      ['what', 'from', 'to', 'by', 'why', 'detected', 'wanted', 'settled', 'last reader'],
      movements.map((move) => [
        `${move.kind} ${move.outcome ?? 'not settled'}`,
        move.from,
        move.to,
        move.actor,
        move.reason,
        move.detectedAt === null ? null : `${move.detectedAt} (${move.detectedBy})`,
        move.wantedAt,
        move.settledAt,
        move.lastReaderAt,
      ]),
    ),
    '## Alerts',
    table(
      ['at', 'alert', 'version', 'what', 'times', 'runbook', 'delivered'],
      alerts.map((alert) => [
        alert.raisedAt,
        alert.kind,
        alert.version,
        alert.summary,
        String(alert.times),
        alert.runbook,
        Object.entries(alert.deliveries)
          .map(([sink, outcome]) => `${sink}: ${outcome ?? 'not yet'}`)
          .join(', '),
      ]),
    ),
    '## Versions and their evidence',
    ...versions.flatMap((version) => [
      `### ${version.tag} of ${version.dataset}`,
      `${version.state}; built on ${version.parent ?? 'the source alone'}, as of ${version.watermarkAt ?? 'an unknown time'}; digest ${version.digest ?? 'none'}, manifest ${version.manifestSha256 ?? 'none'}.`,
      table(
        ['verdict', 'gate', 'index', 'found'],
        version.gates.map(({ verdict, gate, index, summary }) => [verdict, gate, index, summary]),
      ),
      table(
        ['at', 'decided', 'by', 'why'],
        version.decisions.map(({ at, kind, actor, detail }) => [at, kind, actor, said(detail)]),
      ),
    ]),
    '## Refreshes',
    table(
      ['opened', 'closed', 'asked for by', 'ended', 'version', 'what came of it'],
      refreshes.map((one) => [one.openedAt, one.closedAt, one.requestedBy, one.status, one.tag, one.summary]),
    ),
    '## Timeline',
    table(
      ['at', 'what', 'version', 'by', 'why'],
      timeline.map(({ at, kind, version, actor, detail }) => [at, kind, version, actor, said(detail)]),
    ),
    '',
  ].join('\n\n')
}

function said({ reason, summary }: Record<string, unknown>): string | null {
  const texts = [reason, summary].filter((text): text is string => typeof text === 'string' && text !== '')
  return texts.length === 0 ? null : texts.join('; ')
}

function table(headings: readonly string[], rows: ReadonlyArray<ReadonlyArray<string | null>>): string {
  if (rows.length === 0) return 'None.'
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(headings), line(headings.map(() => '---')), ...rows.map((row) => line(row.map(cell)))].join('\n')
}

/** Nothing that people typed ends a cell, or begins a link or an element. */
function cell(text: string | null): string {
  const short = text !== null && text.length > CHARS_MAX ? `${text.slice(0, CHARS_MAX)}…` : (text ?? '-')
  return short.replace(/\s+/g, ' ').replace(/[\\`*_<>[\]|]/g, (character) => `\\${character}`)
}
