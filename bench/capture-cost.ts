import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { attach } from '../src/changelog/capture.ts'
import { resolveSource } from '../src/changelog/definition.ts'
import { findBinary } from '../src/local/find-binary.ts'
import { migrate } from '../src/registry/migrate.ts'
import { median } from './report.ts'
import type { World } from './world.ts'

const TURNS = 5
const SECONDS = 4
const CLIENTS = 4
const SCALE = 10

export interface CaptureCost {
  plainTps: number
  capturedTps: number
  ratio: number
}

/** pgbench's own mix on two databases, one with accounts, tellers and branches captured, in turns. Null where pgbench is not found. */
export async function captureCost(world: World): Promise<CaptureCost | null> {
  const pgbench = findPgbench()
  if (pgbench === undefined) return null
  const urls = { plain: world.databaseUrl('bench_plain'), captured: world.databaseUrl('bench_captured') }
  for (const [side, url] of Object.entries(urls)) {
    await world.pool.query(`create database bench_${side}`)
    await run(pgbench, ['-i', '-q', '-s', String(SCALE), url])
  }
  await migrate(urls.captured)
  await capture(urls.captured)
  const turns: Array<{ plain: number; captured: number }> = []
  for (let turn = 0; turn < TURNS; turn++) {
    const order = turn % 2 === 0 ? (['plain', 'captured'] as const) : (['captured', 'plain'] as const)
    const tps = { plain: 0, captured: 0 }
    for (const side of order) {
      const said = await run(pgbench, ['-n', '-c', String(CLIENTS), '-j', '1', '-T', String(SECONDS), urls[side]])
      tps[side] = Number(/tps = ([\d.]+)/.exec(said)?.[1])
    }
    turns.push(tps)
  }
  return {
    plainTps: median(turns.map((turn) => turn.plain)),
    capturedTps: median(turns.map((turn) => turn.captured)),
    ratio: median(turns.map((turn) => turn.captured / turn.plain)),
  }
}

async function capture(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const table of ['accounts', 'tellers', 'branches']) {
      const index = {
        from: `public.pgbench_${table}`,
        key: `${table.slice(0, 1)}id`,
        value: [`${table.slice(0, 1)}balance`],
      }
      await attach(client, [await resolveSource(client, 'bench', table, index as never)])
    }
  } finally {
    await client.end()
  }
}

/** On the PATH, or where Debian puts it. */
function findPgbench(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [process.env.PATH ?? '', ...versions.map((version) => join(debian, version, 'bin'))]
  return findBinary('pgbench', { PATH: folders.join(delimiter) })
}

function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let errors = ''
  child.stdout.on('data', (data: Buffer) => {
    said += data
  })
  child.stderr.on('data', (data: Buffer) => {
    errors += data
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) =>
      code === 0 ? resolve(said) : reject(new Error(`${command} ended with exit code ${code}: ${errors}`)),
    )
  })
}
