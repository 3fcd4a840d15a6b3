import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { WORKFLOW_ID } from '../../schemas/refresh.ts'
import { connectTemporal } from '../../src/cli/temporal.ts'
import { snapflip } from '../cli/run.ts'
import { makeWorld } from '../support/world.ts'

interface Span {
  name: string
  traceId: string
  spanId: string
  parentSpanId?: string
}

/** What a collector of OpenTelemetry is sent over HTTP. */
async function collector(): Promise<{ url: string; spans: Span[] }> {
  const spans: Span[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const body = JSON.parse(Buffer.concat(chunks).toString()) as {
      resourceSpans: { scopeSpans: { spans: Span[] }[] }[]
    }
    for (const { scopeSpans } of body.resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans)
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  onTestFinished(() => void server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`, spans }
}

it('a refresh is one trace: its workflow, and below it every activity that it took', async () => {
  const { url, spans } = await collector()
  const world = await makeWorld({
    schema: 'create table items (id integer primary key, price integer); insert into items values (1, 2)',
    dataset: { indexes: { items: { from: 'public.items', key: 'id', value: ['price'] } } },
  })
  await world.worker(undefined, { traces: url })
  await world.refresh()
  await expect
    .poll(() => spans.map(({ name }) => name), { timeout: 20_000 })
    .toEqual(expect.arrayContaining(['RunWorkflow:refresh', 'RunActivity:flip', 'RunActivity:finish']))
  const root = spans.find(({ name }) => name === 'RunWorkflow:refresh')
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([root?.traceId]))
  const started = spans.find(({ name }) => name === 'StartActivity:flip')
  expect(started?.parentSpanId).toBe(root?.spanId)
  expect(spans.find(({ name }) => name === 'RunActivity:flip')?.parentSpanId).toBe(started?.spanId)

  // A pipeline that starts one by the command line, say, sees it within its own trace.
  const [traceId, spanId] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7']
  process.env.TRACEPARENT = `00-${traceId}-${spanId}-01`
  onTestFinished(() => void delete process.env.TRACEPARENT)
  const client = await connectTemporal(world.config.temporal, 'a test')
  onTestFinished(() => client.connection.close())
  await client.workflow.execute('refresh', {
    workflowId: WORKFLOW_ID.refresh(world.dataset),
    taskQueue: world.config.temporal.taskQueue,
    args: [{ dataset: world.dataset }],
  })
  await expect
    .poll(() => spans.filter((span) => span.traceId === traceId).map(({ name }) => name), { timeout: 20_000 })
    .toEqual(expect.arrayContaining(['RunWorkflow:refresh', 'RunActivity:plan']))
  expect(spans.find((span) => span.traceId === traceId && span.parentSpanId === spanId)?.name).toBe(
    'RunWorkflow:refresh',
  )
})

it('what is no URL for traces is refused before anything starts', async () => {
  const ran = await snapflip(['worker', '--traces', 'localhost:4318'])
  expect(ran).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Expected --traces to be a URL of http or https'),
  })
})
