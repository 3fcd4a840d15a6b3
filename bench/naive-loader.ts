import { Redis } from 'ioredis'
import { to as copyTo } from 'pg-copy-streams'
import { plainKey, plainSelect } from './plain-sets.ts'
import { timed } from './report.ts'
import type { World } from './world.ts'

const BATCH = 1000
/** Pipelines on their way: enough that neither side waits for the other. */
const PIPELINES_MAX = 4

/** What a cron job does: COPY, one SET a row, ioredis pipelines of 1,000. No gates, no flip; a reader meanwhile sees a mix. Returns ms. */
export async function naiveLoader(world: World): Promise<number> {
  await world.plain.flushdb('SYNC')
  const redis = new Redis({ port: world.redisPort, db: 1 })
  const client = await world.connect()
  try {
    return await timed(async () => {
      const pending: Array<Promise<unknown>> = []
      let pipeline = redis.pipeline()
      let rest = ''
      const stream = client.query(copyTo(plainSelect()))
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        const lines = (rest + chunk.toString('utf8')).split('\n')
        rest = lines.pop() as string
        for (const line of lines) {
          const tab = line.indexOf('\t')
          pipeline.set(plainKey(line.slice(0, tab)), line.slice(tab + 1))
        }
        if (pipeline.length < BATCH) continue
        pending.push(pipeline.exec())
        pipeline = redis.pipeline()
        if (pending.length >= PIPELINES_MAX) await pending.shift()
      }
      pending.push(pipeline.exec())
      await Promise.all(pending)
    })
  } finally {
    redis.disconnect()
    await client.end()
  }
}
