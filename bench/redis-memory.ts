import type { Redis } from 'ioredis'

/** Bytes that Redis says it uses, all of its databases together. */
export async function usedMemory(redis: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1])
}
