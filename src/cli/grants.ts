import type { Config } from '../../schemas/config.ts'
import { grantsSql } from '../registry/grants.ts'
import type { Session } from './session.ts'

/**
 * What each role needs, ready to be run: SQL for capture and worker, and for readers, who never see PostgreSQL, the least the stores must
 * let them do. Below a Redis ACL readers read blocks and pointers, take leases and leave counters; they cannot write a pointer, a manifest
 * or a block, nor read what other readers counted.
 */
export async function grantsText(session: Session): Promise<{ postgres: string; redis: string; s3: string }> {
  const config = await session.config()
  const { datasets, stores } = config
  const postgres = await grantsSql(await session.registry(), { tables: sourceNames(config) })
  const redis: string[] = []
  const s3: string[] = []
  for (const [dataset, definition] of Object.entries(datasets)) {
    for (const name of definition.stores) {
      const url = stores[name] ?? ''
      if (/^rediss?:/i.test(url)) redis.push(await readerAcl(url, dataset))
      if (/^s3:/i.test(url)) s3.push(readerPolicy(url, dataset))
    }
  }
  const heading = (text: string, parts: string[]) => (parts.length === 0 ? '' : `${text}\n${parts.join('\n')}\n`)
  return {
    postgres,
    redis: heading('\n# Redis: readers. Give each a password of your own (>…), then `acl save`.', redis),
    s3: heading(
      '\n# S3: policy of readers. Without leases/ they may still read; pins are then protected by the minimum age alone. Without counters/ no canary or bake hears of them.',
      s3,
    ),
  }
}

async function readerAcl(url: string, dataset: string): Promise<string> {
  const [{ RedisKeys }, { parseRedisUrl }] = await Promise.all([
    import('../stores/redis/keys.ts'),
    import('../stores/redis/connection.ts'),
  ])
  const keys = new RedisKeys(parseRedisUrl(url, {}).prefix, dataset)
  const blocks = keys.object('', 0).slice(0, -1)
  return [
    `acl setuser snapflip_reader_${dataset} reset on >PASSWORD`,
    // Read alone: pointer, manifests, blocks.
    ...[keys.pointer, keys.manifests, `${blocks}*`].map((key) => `%R~${key}`),
    `%RW~${keys.leases} %W~${keys.counters}* &${keys.channel}`,
    '+get +mget +hget +hmget +hkeys +hset +hgetall +hdel +pexpire +eval +evalsha +time +subscribe +unsubscribe +ping +info +hello +select +client|setname +cluster|slots',
  ].join(' ')
}

function readerPolicy(url: string, dataset: string): string {
  const { hostname, pathname } = new URL(url)
  const prefix = [pathname.replace(/^\/|\/$/g, ''), dataset].filter((part) => part !== '').join('/')
  const bucket = `arn:aws:s3:::${hostname}`
  return JSON.stringify(
    {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Action: ['s3:GetObject'], Resource: [`${bucket}/${prefix}/*`] },
        {
          Effect: 'Allow',
          Action: ['s3:ListBucket'],
          Resource: [bucket],
          // Asked for a missing object, which names no prefix, S3 answers 403 instead of 404 unless this holds too.
          Condition: { StringLikeIfExists: { 's3:prefix': [`${prefix}/*`] } },
        },
        { Effect: 'Allow', Action: ['s3:PutObject', 's3:DeleteObject'], Resource: [`${bucket}/${prefix}/leases/*`] },
        { Effect: 'Allow', Action: ['s3:PutObject'], Resource: [`${bucket}/${prefix}/counters/*`] },
      ],
    },
    null,
    2,
  )
}

/** Every source of the definition, as it names them. */
export function sourceNames({ datasets }: Config): string[] {
  const names = Object.values(datasets).flatMap(({ indexes }) =>
    Object.values(indexes).flatMap((index) => ('events' in index ? [] : [index.from])),
  )
  return [...new Set(names)]
}
