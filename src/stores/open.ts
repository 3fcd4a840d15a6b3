import { SnapflipError } from '../core/errors.ts'
import type { Store } from './ports.ts'

export interface OpenOptions {
  dataset: string
  /** How long a connection may take to come about. Redis and S3. */
  connectTimeoutMs?: number
  /** How long one command or request may take before its outcome is unknown. Redis and S3. */
  commandTimeoutMs?: number
}

const EXPECTED = 'redis://host:port/db, rediss://host:port/db, s3://bucket/prefix?region=… or file:./folder'

/**
 * Opens the store behind a URL for one dataset. Only the driver that is needed is loaded. Does not connect: the first call, or
 * `check`, finds out whether the store answers, so that a reader may be opened while its store is down.
 */
export async function openStore(url: string, options: OpenOptions): Promise<Store> {
  const scheme = /^([a-z0-9+.-]+):/i.exec(url)?.[1]?.toLowerCase()
  switch (scheme) {
    case 'redis':
    case 'rediss': {
      const { openRedisStore } = await import('./redis/store.ts')
      return openRedisStore(url, options)
    }
    case 's3': {
      const { openS3Store } = await import('./s3/store.ts')
      return openS3Store(url, options)
    }
    case 'file': {
      const { openFolderStore } = await import('./folder/store.ts')
      return openFolderStore(url, options.dataset)
    }
    default:
      // Not the URL itself: what does not parse may still hold a password.
      throw new SnapflipError(
        'CONFIG_INVALID',
        `Store URL has ${scheme === undefined ? 'no scheme' : `the scheme ${scheme}:`}, expected ${EXPECTED}.`,
        { scheme: scheme ?? null },
      )
  }
}
