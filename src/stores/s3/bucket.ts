import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3'
import { type ErrorCode, isSnapflipError, SnapflipError } from '../../core/errors.ts'
import { parseStoreUrl, urlOptions, wholeNumber } from '../url-options.ts'

const EXPECTED = 's3://bucket/prefix?region=eu-central-1'
const KNOWN = ['region', 'endpoint', 'forcePathStyle', 'connectTimeoutMs', 'commandTimeoutMs'] as const

const CONNECT_TIMEOUT_MS = 3_000
/** A pack of 16 MiB over 10 Mbit/s takes 14 s. */
const COMMAND_TIMEOUT_MS = 30_000
/** Reads and writes of data may be made twice: they are of immutable objects, written if absent. */
const DATA_ATTEMPTS = 3
const CONNECTIONS_MAX = 32

export interface S3Target {
  /** Without endpoint credentials; S3 URLs hold none. */
  shown: string
  bucket: string
  /** Empty, or ends in a slash. */
  prefix: string
  region: string | undefined
  endpoint: string | undefined
  forcePathStyle: boolean
  connectTimeoutMs: number
  commandTimeoutMs: number
}

export function parseS3Url(url: string, limits: { connectTimeoutMs?: number; commandTimeoutMs?: number }): S3Target {
  const parsed = parseStoreUrl(url, EXPECTED)
  const query = urlOptions(parsed, KNOWN)
  if (parsed.username !== '' || parsed.password !== '') {
    throw new SnapflipError(
      'CONFIG_INVALID',
      `S3 URL of bucket ${parsed.hostname} holds credentials, expected none. The AWS chain finds them: environment, profile or role.`,
    )
  }
  if (parsed.hostname === '') throw new SnapflipError('CONFIG_INVALID', `S3 URL has no bucket, expected ${EXPECTED}.`)
  const path = decodeURIComponent(parsed.pathname).replace(/^\/+|\/+$/g, '')
  if (query.endpoint !== undefined) refuseBadEndpoint(query.endpoint)
  const at = query.endpoint === undefined ? '' : `?endpoint=${query.endpoint}`
  return {
    shown: `s3://${parsed.hostname}/${path}${at}`,
    bucket: parsed.hostname,
    prefix: path === '' ? '' : `${path}/`,
    region: query.region,
    endpoint: query.endpoint,
    forcePathStyle: query.forcePathStyle === 'true' || query.forcePathStyle === '1',
    connectTimeoutMs:
      limits.connectTimeoutMs ?? wholeNumber('connectTimeoutMs', query.connectTimeoutMs ?? `${CONNECT_TIMEOUT_MS}`),
    commandTimeoutMs:
      limits.commandTimeoutMs ?? wholeNumber('commandTimeoutMs', query.commandTimeoutMs ?? `${COMMAND_TIMEOUT_MS}`),
  }
}

function refuseBadEndpoint(endpoint: string): void {
  const parsed = URL.canParse(endpoint) ? new URL(endpoint) : null
  if (parsed !== null && /^https?:$/.test(parsed.protocol) && parsed.username === '') return
  throw new SnapflipError(
    'CONFIG_INVALID',
    'Endpoint of an S3 URL does not parse, expected http://host:port or https://host:port without credentials.',
  )
}

export type PutCondition = { ifAbsent: true } | { ifMatch: string } | null
export interface S3Object {
  bytes: Buffer
  etag: string
}
export interface S3Listing {
  objects: Array<{ name: string; modifiedAt: Date }>
  /** Names up to and without the next slash. */
  folders: string[]
  /** The server's clock when it answered. */
  now: Date
}

/** Objects below one prefix of a bucket. Errors come out translated; conditions that did not hold come out as values. */
export class S3Bucket {
  readonly url: string
  readonly #target: S3Target
  readonly #prefix: string
  readonly #client: S3Client
  /** For the pointer: a write is never sent twice, or a lost reply would look like somebody else's write. */
  readonly #onceClient: S3Client

  constructor(target: S3Target, dataset: string) {
    this.url = target.shown
    this.#target = target
    this.#prefix = `${target.prefix}${dataset}/`
    this.#client = clientOf(target, DATA_ATTEMPTS)
    this.#onceClient = clientOf(target, 1)
  }

  /** Returns the ETag; `refused` when the condition did not hold (412, or 404 for a match), `undecided` on 409. */
  async put(
    name: string,
    body: Uint8Array,
    condition: PutCondition,
    options: { once?: boolean } = {},
  ): Promise<{ etag: string } | 'refused' | 'undecided'> {
    const command = new PutObjectCommand({
      ...this.#object(name),
      Body: body,
      ContentLength: body.length,
      ...(condition === null ? {} : 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch }),
    })
    try {
      const { ETag = '' } = await (options.once ? this.#onceClient : this.#client).send(command)
      return { etag: ETag }
    } catch (error) {
      const status = statusOf(error)
      if (status === 412 || (status === 404 && isMissingObject(error) && condition !== null)) return 'refused'
      if (status === 409 && condition !== null) return 'undecided'
      throw this.translate(error, `writing ${name}`)
    }
  }

  /** Null when the object is absent, or ends before the range begins. */
  async get(name: string, range?: { start: number; end: number }): Promise<S3Object | null> {
    const command = () =>
      new GetObjectCommand({
        ...this.#object(name),
        ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end - 1}` }),
      })
    for (let attempt = 1; ; attempt++) {
      try {
        const { Body, ETag = '' } = await this.#client.send(command())
        const bytes = (await Body?.transformToByteArray()) ?? new Uint8Array()
        return { bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), etag: ETag }
      } catch (error) {
        if (isMissingObject(error) || statusOf(error) === 416) return null
        // The client tries requests again, but not bodies that break off.
        if (error instanceof S3ServiceException || attempt === DATA_ATTEMPTS)
          throw this.translate(error, `reading ${name}`)
      }
    }
  }

  async modifiedAt(name: string): Promise<Date | null> {
    try {
      const { LastModified } = await this.#client.send(new HeadObjectCommand(this.#object(name)))
      return LastModified ?? null
    } catch (error) {
      if (statusOf(error) === 404) return null
      throw this.translate(error, `asking for ${name}`)
    }
  }

  /** All objects below a folder; with `shallow` those directly in it, and the folders there. */
  async list(folder: string, options: { shallow?: boolean } = {}): Promise<S3Listing> {
    const listing: S3Listing = { objects: [], folders: [], now: new Date(0) }
    const below = this.#prefix + folder
    let token: string | undefined
    do {
      const page: ListObjectsV2CommandOutput = await this.#client
        .send(
          new ListObjectsV2Command({
            Bucket: this.#target.bucket,
            Prefix: below,
            ...(options.shallow ? { Delimiter: '/' } : {}),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        )
        .catch((error: unknown) => {
          throw this.translate(error, `listing ${folder}`)
        })
      for (const { Key = '', LastModified = new Date(0) } of page.Contents ?? []) {
        // What consoles put to show an empty folder.
        if (Key === below) continue
        listing.objects.push({ name: Key.slice(this.#prefix.length), modifiedAt: LastModified })
      }
      for (const { Prefix = '' } of page.CommonPrefixes ?? []) {
        listing.folders.push(Prefix.slice(below.length).replace(/\/$/, ''))
      }
      listing.now = dateOf(page)
      token = page.IsTruncated ? page.NextContinuationToken : undefined
    } while (token !== undefined)
    return listing
  }

  async delete(name: string): Promise<void> {
    try {
      await this.#client.send(new DeleteObjectCommand(this.#object(name)))
    } catch (error) {
      if (!isMissingObject(error)) throw this.translate(error, `deleting ${name}`)
    }
  }

  async requireBucket(): Promise<void> {
    try {
      await this.#client.send(new HeadBucketCommand({ Bucket: this.#target.bucket }))
    } catch (error) {
      if (statusOf(error) !== 404) throw this.translate(error, 'asking for the bucket')
      throw new SnapflipError(
        'STORE_UNSUITABLE',
        `${this.url} has no bucket ${this.#target.bucket}, expected it to exist. Create it, or correct the URL.`,
        { store: this.url, bucket: this.#target.bucket },
        plainCause(error),
      )
    }
  }

  translate(error: unknown, doing: string): unknown {
    if (isSnapflipError(error) || !(error instanceof Error)) return error
    const [code, expected, hint] = reasonOf(error)
    return new SnapflipError(
      code,
      `${this.url} failed while ${doing} (${error.name}: ${error.message}), expected ${expected}. ${hint}`,
      { store: this.url, s3Code: error.name, status: statusOf(error) ?? null },
      plainCause(error),
    )
  }

  close(): void {
    this.#client.destroy()
    this.#onceClient.destroy()
  }

  #object(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#target.bucket, Key: this.#prefix + name }
  }
}

function clientOf(target: S3Target, maxAttempts: number): S3Client {
  const client = new S3Client({
    ...(target.region === undefined ? {} : { region: target.region }),
    ...(target.endpoint === undefined ? {} : { endpoint: target.endpoint }),
    forcePathStyle: target.forcePathStyle,
    maxAttempts,
    // Everything read is checked against its own sums; stores older than these checksums stay usable.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: target.connectTimeoutMs,
      requestTimeout: target.commandTimeoutMs,
      throwOnRequestTimeout: true,
      socketTimeout: target.commandTimeoutMs,
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
      httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
    },
  })
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args)
      const { headers } = result.response as { headers?: Record<string, string> }
      Object.assign((result.output as { $metadata: object }).$metadata, { date: headers?.date })
      return result
    },
    { step: 'deserialize', name: 'keepDateOfServer', priority: 'high' },
  )
  return client
}

/** The server's clock, from the Date header of its answer. */
function dateOf(output: ListObjectsV2CommandOutput): Date {
  const { date } = output.$metadata as { date?: string }
  const parsed = new Date(date ?? Number.NaN)
  return Number.isNaN(parsed.getTime()) ? new Date() : parsed
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
}

function isMissingObject(error: unknown): boolean {
  return error instanceof S3ServiceException && (error.name === 'NoSuchKey' || error.name === 'NotFound')
}

/** Errors of the SDK carry requests and responses with their headers. */
function plainCause(error: unknown): Error {
  const cause = new Error(error instanceof Error ? error.message : String(error))
  if (error instanceof Error) cause.name = error.name
  return cause
}

function reasonOf(error: Error): [ErrorCode, string, string] {
  const status = statusOf(error)
  if (error.name === 'NoSuchBucket') {
    return ['STORE_UNSUITABLE', 'the bucket to exist', 'Create it, or correct the URL.']
  }
  if (error.name === 'CredentialsProviderError' || status === 403 || status === 401) {
    return [
      'STORE_UNSUITABLE',
      'credentials that may do this',
      'Check the AWS chain (environment, profile, role) and the policy; without s3:ListBucket S3 answers so for an object that is not there, too ' +
        '(see `snapflip doctor --grants`).',
    ]
  }
  if (/Region is missing/.test(error.message)) {
    return ['STORE_UNSUITABLE', 'a region', 'Add ?region= to the URL or set AWS_REGION.']
  }
  if (status === 507 || /QuotaExceeded|StorageFull|InsufficientStorage/.test(error.name)) {
    return ['STORE_FULL', 'room for it', 'Raise the quota or lower `keep`, then try again.']
  }
  return ['STORE_UNREACHABLE', 'the service to answer', 'Check endpoint and network, then try again.']
}
