import { writeFile } from 'node:fs/promises'
import { METRICS, type MetricDeclaration } from '../src/core/metrics.ts'
import { PACKAGES } from '../src/observe/traces.ts'
import { npmInstall } from '../src/package-version.ts'

/** The page of metrics, made from what is declared; `test/observe/metrics.unit.test.ts` holds the two equal. */
export function metricsPage(): string {
  return `# Metrics

Prometheus' text format, made with prom-client. No label holds a key, a tag or anything that a person typed. This page is made by
\`node scripts/metrics-page.ts\`; the rules in [prometheus-rules.yml](prometheus-rules.yml) and the Grafana dashboard in
[grafana-dashboard.json](grafana-dashboard.json) use what is listed here.

## From a worker

\`\`\`sh
snapflip worker --metrics 9464           # http://127.0.0.1:9464/metrics, for this machine alone
snapflip worker --metrics 0.0.0.0:9464   # for others too: nothing asks who they are
\`\`\`

\`/healthz\` beside it answers 200 while the worker polls. Gauges are measured when somebody asks, at most every 5 s, by a few bounded
questions. What does not answer within 4 s is left out and counted in \`snapflip_scrape_errors_total\`: a gauge that is there was measured
just now. Every worker tells the same gauges, so take the \`max by (dataset)\` of several; counters and histograms are each worker's own,
and add up. Refreshes by status and alerts by kind are there from the worker's start, at 0: a rule sees the first of each.

${tableOf('worker')}

## From a process that reads

\`\`\`js
import { open } from 'snapflip'
import { register } from 'prom-client'

const shop = await open('redis://localhost:6379/0', 'shop', { metrics: register })
\`\`\`

The registry is yours, of prom-client 14 or 15; readers that share it share these metrics. A read costs nothing for it: what the reader counts
anyway is looked at when somebody scrapes. Whether a build runs is asked of the store every 5 s (one
request, while somebody has scraped within three minutes), so reads near its beginning and its end count
as beside it.

${tableOf('reader')}

## From Temporal

Temporal's SDK has metrics of its own (slots, latencies of tasks), and its server many more; they are not repeated here.

# Traces

\`\`\`sh
${npmInstall(PACKAGES)}
snapflip worker --traces http://localhost:4318/v1/traces
\`\`\`

A refresh is one trace: the workflow, and below it each activity with its retries, by Temporal's own interceptors, sent as OTLP over HTTP.
Spans name datasets in workflow ids; no keys, no rows. Started by the command line with TRACEPARENT set (W3C), a workflow goes on with that
trace. The worker bundles its workflows when it starts, which takes some seconds.
`
}

function tableOf(from: MetricDeclaration['from']): string {
  const rows = Object.entries<MetricDeclaration>(METRICS)
    .filter(([, declared]) => declared.from === from)
    .map(([name, { kind, labels, help }]) => `| \`${name}\` | ${kind} | ${labels.join(', ')} | ${help} |`)
  return `| metric | kind | labels | what it says |\n|---|---|---|---|\n${rows.join('\n')}`
}

if (import.meta.main) await writeFile(new URL('../docs/metrics.md', import.meta.url), metricsPage())
