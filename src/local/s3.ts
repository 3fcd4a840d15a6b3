import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { requireBinary } from './find-binary.ts'
import { startServerProcess } from './server-process.ts'
import { startOnPort } from './start-on-port.ts'

export type StartS3Options = {
  /** Kept across starts; without it a temporary folder that goes with the server. */
  dataDir?: string
  port?: number
  /** Made if it is not there. */
  bucket?: string
  accessKeyId?: string
  secretAccessKey?: string
}

export type LocalS3 = {
  /** http://127.0.0.1:PORT */
  endpoint: string
  port: number
  region: 'us-east-1'
  bucket: string
  accessKeyId: string
  secretAccessKey: string
  /** What the AWS SDK reads its credentials from. */
  env: { AWS_ACCESS_KEY_ID: string; AWS_SECRET_ACCESS_KEY: string; AWS_REGION: string }
  /** A store URL for snapflip, below `prefix` of the bucket. It holds no credentials. */
  urlOf(prefix: string): string
  /** Makes one more bucket. */
  makeBucket(name: string): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts versitygw, an S3 server over a folder.
 *
 * @throws Error when the binary is missing or the server does not come up, with its last log lines.
 */
export async function startS3(options: StartS3Options = {}): Promise<LocalS3> {
  const region = 'us-east-1'
  const { bucket = 'snapflip', accessKeyId = 'snapflip', secretAccessKey = randomBytes(16).toString('hex') } = options
  const command = requireBinary(
    'versitygw',
    'Install it with `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`, or take a release of github.com/versity/versitygw.',
  )
  return startOnPort(options.port, async (port) => {
    const temporaryFolder = options.dataDir === undefined ? await mkdtemp(join(tmpdir(), 'snapflip-s3-')) : undefined
    const dataDir = options.dataDir ?? (temporaryFolder as string)
    // A folder at the top is a bucket, owned by the root account.
    const makeBucket = async (name: string) => void (await mkdir(join(dataDir, name), { recursive: true }))
    await makeBucket(bucket)
    const server = await startServerProcess({
      name: 'versitygw',
      command,
      args: [
        '--port',
        `127.0.0.1:${port}`,
        '--region',
        region,
        '--quiet',
        '--health',
        '/health',
        '--keep-alive',
        'posix',
        dataDir,
      ],
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        ROOT_ACCESS_KEY: accessKeyId,
        ROOT_SECRET_KEY: secretAccessKey,
      },
      temporaryFolder,
    })
    const endpoint = `http://127.0.0.1:${port}`
    await server.ready(async () => (await fetch(`${endpoint}/health`)).ok)
    return {
      endpoint,
      port,
      region,
      bucket,
      accessKeyId,
      secretAccessKey,
      env: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region },
      urlOf: (prefix) =>
        `s3://${bucket}/${prefix}?${new URLSearchParams({ region, endpoint, forcePathStyle: 'true' }).toString()}`,
      makeBucket,
      stop: () => server.stop(),
    }
  })
}
