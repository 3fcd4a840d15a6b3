import { randomUUID } from 'node:crypto'
import { SnapflipError } from '../../core/errors.ts'
import type { OpenOptions } from '../open.ts'
import type { Store } from '../ports.ts'
import { parseS3Url, S3Bucket } from './bucket.ts'
import { S3Counters } from './counters.ts'
import { S3Data } from './data.ts'
import { S3Leases } from './leases.ts'
import { S3Pointer } from './pointer.ts'

/**
 * A store in a bucket: `s3://bucket/prefix` with `?region=`, `?endpoint=`, `?forcePathStyle=true`, `?connectTimeoutMs=` and
 * `?commandTimeoutMs=`. Credentials come from the AWS chain.
 */
export function openS3Store(url: string, options: OpenOptions): Store {
  const bucket = new S3Bucket(parseS3Url(url, options), options.dataset)
  return {
    url: bucket.url,
    data: new S3Data(bucket),
    pointer: new S3Pointer(bucket),
    leases: new S3Leases(bucket),
    counters: new S3Counters(bucket),
    check: () => checkBucket(bucket),
    freeBytes: async () => null,
    close: async () => bucket.close(),
  }
}

const PROBES = 'check/'
/** A check takes seconds. */
const PROBE_AGE_MAX_MS = 3_600_000

/** A service that ignores the conditions would let two flips win: they are tried out. */
async function checkBucket(bucket: S3Bucket): Promise<void> {
  await bucket.requireBucket()
  const probe = `${PROBES}${randomUUID()}`
  const unsuitable = (header: string) =>
    new SnapflipError(
      'STORE_UNSUITABLE',
      `${bucket.url} wrote an object although its ${header} did not hold, expected 412. ` +
        'Use a service that honours conditional writes.',
      { store: bucket.url, header },
    )
  const first = await bucket.put(probe, Buffer.from('first'), { ifAbsent: true })
  if (typeof first !== 'object') {
    throw new SnapflipError(
      'STORE_UNSUITABLE',
      `${bucket.url} refused an object under a new name with If-None-Match: *, expected it to be written.`,
      { store: bucket.url },
    )
  }
  try {
    if ((await bucket.put(probe, Buffer.from('second'), { ifAbsent: true })) !== 'refused') {
      throw unsuitable('If-None-Match: *')
    }
    const other = `"${'0'.repeat(32)}"`
    if ((await bucket.put(probe, Buffer.from('third'), { ifMatch: other })) !== 'refused') throw unsuitable('If-Match')
    if (typeof (await bucket.put(probe, Buffer.from('fourth'), { ifMatch: first.etag })) !== 'object') {
      throw new SnapflipError(
        'STORE_UNSUITABLE',
        `${bucket.url} refused a write whose If-Match held, expected it to be written.`,
        { store: bucket.url, header: 'If-Match' },
      )
    }
  } finally {
    await bucket.delete(probe)
  }
  // Left by checks whose process died.
  const { objects, now } = await bucket.list(PROBES)
  for (const { name, modifiedAt } of objects) {
    if (modifiedAt.getTime() < now.getTime() - PROBE_AGE_MAX_MS) await bucket.delete(name)
  }
}
