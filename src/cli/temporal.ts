import type { Client, ConnectionOptions, WorkflowClientInterceptor, WorkflowStartInput } from '@temporalio/client'
import type { Config } from '../../schemas/config.ts'
import { SnapflipError } from '../core/errors.ts'

const CONNECT_TIMEOUT_MS = 5_000

/** gRPC status codes. */
const CANCELLED = 1
const DEADLINE_EXCEEDED = 4
const NOT_FOUND = 5
const PERMISSION_DENIED = 7
const UNAVAILABLE = 14
const UNAUTHENTICATED = 16

/** @throws SnapflipError TEMPORAL_UNREACHABLE, naming the address and what to do. */
export async function connectTemporal(temporal: Config['temporal'], identity: string): Promise<Client> {
  const [{ Client, Connection, defaultPayloadConverter }, { temporalTarget }] = await Promise.all([
    import('@temporalio/client'),
    import('../temporal/connection.ts'),
  ])
  const target = temporalTarget(temporal)
  try {
    const connection = await Connection.connect({
      // One configuration for workers and clients: they name these options alike.
      ...(target.connection as ConnectionOptions),
      connectTimeout: CONNECT_TIMEOUT_MS,
    })
    const interceptors = { workflow: carriedTrace(process.env.TRACEPARENT, defaultPayloadConverter) }
    return new Client({ connection, namespace: target.namespace, identity, interceptors })
  } catch (error) {
    throw temporalFailure(error, target)
  }
}

/** Where the interceptors of workers look for the trace that they belong to. */
const TRACE_HEADER = '_tracer-data'

type Converter = typeof import('@temporalio/client').defaultPayloadConverter

/** The trace that this process is part of, as W3C has it in TRACEPARENT, goes on in the workflows that it starts. */
function carriedTrace(traceparent: string | undefined, converter: Converter): WorkflowClientInterceptor[] {
  if (traceparent === undefined || !/^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)) return []
  const withTrace = <I extends WorkflowStartInput>(input: I): I => ({
    ...input,
    headers: { ...input.headers, [TRACE_HEADER]: converter.toPayload({ traceparent }) },
  })
  return [
    {
      start: (input, next) => next(withTrace(input)),
      startWithDetails: (input, next) => next(withTrace(input)),
    },
  ]
}

/** What a failed call to Temporal means; what is not Temporal's passes through unchanged. */
export function temporalFailure(error: unknown, at: { address: string; namespace: string }): unknown {
  const details = { address: at.address, namespace: at.namespace }
  const unreachable = (found: string, advice: string) =>
    new SnapflipError(
      'TEMPORAL_UNREACHABLE',
      `Expected Temporal to answer at ${at.address}, found ${found}. ${advice}`,
      details,
      error,
    )
  const noNamespace = () =>
    unreachable(`no namespace ${at.namespace} there`, 'Register it, or correct temporal.namespace.')
  // The SDK's own name for some of these; it has no status then.
  if (error instanceof Error && error.name === 'NamespaceNotFoundError') return noNamespace()
  switch (statusOf(error)) {
    case UNAVAILABLE:
    case DEADLINE_EXCEEDED:
    case CANCELLED:
      return unreachable(
        'no answer',
        'Start it (`snapflip up` does, or `temporal server start-dev`), or correct temporal.address.',
      )
    case PERMISSION_DENIED:
    case UNAUTHENTICATED:
      return unreachable('that it refuses these credentials', 'Correct temporal.apiKey, temporal.tls or the profile.')
    case NOT_FOUND:
      return /namespace/i.test(messagesOf(error)) ? noNamespace() : error
    default:
      return /[Cc]onnect|ECONN|ENOTFOUND|[Dd]eadline/.test(messagesOf(error))
        ? unreachable(
            'no answer',
            'Start it (`snapflip up` does, or `temporal server start-dev`), or correct temporal.address.',
          )
        : error
  }
}

/** The SDK wraps gRPC errors once or twice. */
function statusOf(error: unknown): number | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = (at as { code?: unknown }).code
    if (typeof code === 'number') return code
  }
  return null
}

function messagesOf(error: unknown): string {
  let text = ''
  for (let at = error; at instanceof Error; at = at.cause) text += `${at.name}: ${at.message}\n`
  return text
}
