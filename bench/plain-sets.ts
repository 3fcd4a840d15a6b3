import { spawn } from 'node:child_process'
import { createReadStream, createWriteStream } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { to as copyTo } from 'pg-copy-streams'
import { usedMemory } from './redis-memory.ts'
import { timed } from './report.ts'
import { COLUMNS, TABLE } from './rows.ts'
import type { World } from './world.ts'

export const plainKey = (id: number | string): string => `plain:${id}`

/** `redis-cli --pipe` of one SET a row, from a file of commands made beforehand. Leaves them there. Returns ms and the bytes Redis took. */
export async function plainSets(world: World): Promise<{ ms: number; bytes: number }> {
  const file = await commandFile(world)
  await world.plain.flushdb('SYNC')
  const before = await usedMemory(world.plain)
  const ms = await timed(async () => {
    const child = spawn('redis-cli', ['-p', String(world.redisPort), '-n', '1', '--pipe'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    child.stdout.resume()
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), child.stdin)
    const code = await ended
    if (code !== 0) throw new Error(`redis-cli --pipe ended with exit code ${code}`)
  })
  return { ms, bytes: (await usedMemory(world.plain)) - before }
}

/** The commands in Redis's protocol, written once a run. */
async function commandFile(world: World): Promise<string> {
  const file = join(world.folder, 'plain-sets')
  if (
    await access(file).then(
      () => true,
      () => false,
    )
  )
    return file
  const client = await world.connect()
  let rest = ''
  const toCommands = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const lines = (rest + chunk.toString('latin1')).split('\n')
      rest = lines.pop() as string
      let out = ''
      for (const line of lines) {
        const tab = line.indexOf('\t')
        const key = plainKey(line.slice(0, tab))
        const value = line.slice(tab + 1)
        out += `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${value.length}\r\n${value}\r\n`
      }
      done(null, Buffer.from(out, 'latin1'))
    },
  })
  await pipeline(client.query(copyTo(plainSelect())), toCommands, createWriteStream(file))
  await client.end()
  return file
}

/** COPY in text: no value here has a character that it would escape. */
export function plainSelect(): string {
  return `copy (select v.id, row_to_json(v)::text from ${TABLE} cross join lateral (select ${COLUMNS.join(', ')}) as v) to stdout`
}
