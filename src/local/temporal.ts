import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Connection } from '@temporalio/client'
import { npmInstall } from '../package-version.ts'
import { findBinary } from './find-binary.ts'
import { freePort } from './free-port.ts'
import { startServerProcess } from './server-process.ts'
import { startOnPort } from './start-on-port.ts'

export type StartTemporalOptions = {
  port?: number
  /** Serves the UI on this port of 127.0.0.1; `true` draws a free one. Without it there is no UI. */
  uiPort?: number | true
  /** Keeps workflows across starts in this SQLite file; without it they live in memory. */
  dbFilename?: string
  namespace?: string
  /** name → Text, Keyword, Int, Double, Bool, Datetime or KeywordList. */
  searchAttributes?: Record<string, string>
}

export type LocalTemporal = {
  /** host:port of the gRPC service. */
  address: string
  namespace: string
  uiUrl: string | undefined
  stop(): Promise<void>
}

/**
 * Starts Temporal's dev server: the `temporal` binary of the PATH or `.tools/bin`, else the one that
 * @temporalio/testing downloads.
 *
 * @throws Error when there is neither, or the server does not come up, with its last log lines.
 */
export async function startTemporal(options: StartTemporalOptions = {}): Promise<LocalTemporal> {
  const namespace = options.namespace ?? 'default'
  const uiPort = options.uiPort === true ? await freePort() : options.uiPort
  const uiUrl = uiPort === undefined ? undefined : `http://127.0.0.1:${uiPort}`
  if (options.dbFilename !== undefined) await mkdir(dirname(options.dbFilename), { recursive: true })
  const extraArgs = Object.entries(options.searchAttributes ?? {}).flatMap(([name, type]) => [
    '--search-attribute',
    `${name}=${type}`,
  ])
  const command = findBinary('temporal')
  if (command === undefined) return startDownloaded(options, namespace, uiPort, uiUrl, extraArgs)

  return startOnPort(options.port, async (port) => {
    const server = await startServerProcess({
      name: 'Temporal',
      command,
      args: [
        ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port), '--namespace', namespace],
        ...(uiPort === undefined ? ['--headless'] : ['--ui-port', String(uiPort)]),
        ...(options.dbFilename === undefined ? [] : ['--db-filename', options.dbFilename]),
        ...extraArgs,
      ],
    })
    const address = `127.0.0.1:${port}`
    await server.ready(() => answers(address, namespace), 60_000)
    return { address, namespace, uiUrl, stop: () => server.stop() }
  })
}

async function startDownloaded(
  options: StartTemporalOptions,
  namespace: string,
  uiPort: number | undefined,
  uiUrl: string | undefined,
  extraArgs: string[],
): Promise<LocalTemporal> {
  const howToGet =
    'Install the Temporal CLI (https://docs.temporal.io/cli), or `go install github.com/temporalio/cli/cmd/temporal@v1.5.1`, ' +
    `or \`${npmInstall(['@temporalio/testing'])}\`, which downloads it.`
  try {
    const { TestWorkflowEnvironment } = await import('@temporalio/testing')
    const environment = await TestWorkflowEnvironment.createLocal({
      server: {
        namespace,
        ip: '127.0.0.1',
        ...(options.port === undefined ? {} : { port: options.port }),
        ...(options.dbFilename === undefined ? {} : { dbFilename: options.dbFilename }),
        ui: uiPort !== undefined,
        extraArgs: [...(uiPort === undefined ? [] : ['--ui-port', String(uiPort)]), ...extraArgs],
      },
    })
    return { address: environment.address, namespace, uiUrl, stop: () => environment.teardown() }
  } catch (cause) {
    throw new Error(`Expected a Temporal dev server, found no binary, and none could be downloaded. ${howToGet}`, {
      cause,
    })
  }
}

async function answers(address: string, namespace: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: 2_000 })
  try {
    await connection.workflowService.describeNamespace({ namespace })
    // The namespace is there before it can start workflows; listing goes through all of the services.
    await connection.workflowService.listWorkflowExecutions({ namespace, pageSize: 1 })
    return true
  } finally {
    await connection.close()
  }
}
