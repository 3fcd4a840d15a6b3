import { spawn } from 'node:child_process'
import { once } from 'node:events'
import * as nodeFs from 'node:fs/promises'
import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Location } from '../../schemas/manifest.ts'
import { COUNTERS_KEPT_MS } from '../../src/core/counters.ts'
import { emptyPointer } from '../../src/core/pointer.ts'
import { changePointer } from '../../src/stores/change-pointer.ts'
import type { FileSystem } from '../../src/stores/folder/files.ts'
import { openFolderStore } from '../../src/stores/folder/store.ts'
import { openStore } from '../../src/stores/open.ts'
import { LEASE_TTL_MAX_MS } from '../../src/stores/unreadable-lease.ts'
import { type TestFolder, testFolder } from '../support/services.ts'
import { storeContract } from './contract.ts'
import { report } from './reports.ts'
import { flipFrom, newGeneration, tagOf } from './versions.ts'

let folder: TestFolder
beforeAll(async () => {
  folder = await testFolder()
})

describe('folder store', () => {
  storeContract((dataset) => openStore(folder.url, { dataset }))

  it('answers null for objects of a pack that was truncated', async () => {
    const store = await openStore(folder.url, { dataset: 'truncated' })
    const writer = await store.data.begin(newGeneration())
    const locations = (await writer.put([Buffer.from('whole'), Buffer.from('cut')])) as [Location, Location]
    await writer.finish()
    await truncate(join(folder.path, 'truncated', 'packs', writer.generation, '0'), 7)
    expect(await store.data.read(locations)).toEqual([Buffer.from('whole'), null])
    await store.close()
  })

  it('that runs out of room says so, shows nothing half-written and goes on when there is room again', async () => {
    const { fs, fill } = fullDisk()
    const store = openFolderStore(folder.url, 'full', fs)
    await store.pointer.swap(null, emptyPointer('full'))
    const before = await store.pointer.read()
    const writer = await store.data.begin(newGeneration())
    const [location] = (await writer.put([Buffer.alloc(5000, 1)])) as [Location]

    fill(true)
    const full = { code: 'STORE_FULL' }
    await expect(writer.finish()).rejects.toMatchObject(full)
    await expect(store.data.putManifest(tagOf(1), Buffer.from('manifest'))).rejects.toMatchObject(full)
    await expect(
      store.pointer.swap(before?.token ?? null, { ...emptyPointer('full'), flipId: 'f' }),
    ).rejects.toMatchObject(full)
    await expect(store.leases.put({ id: 'l', tag: tagOf(1), kind: 'reader', ttlMs: 1000 })).rejects.toMatchObject(full)
    await expect(store.check()).rejects.toMatchObject(full)
    expect(await store.data.read([location])).toEqual([null])
    expect(await store.data.readManifest(tagOf(1))).toBeNull()
    expect(await store.data.listManifests()).toEqual([])
    expect(await store.pointer.read()).toEqual(before)
    expect(await store.leases.list()).toEqual([])
    expect(await nodeFs.readdir(join(folder.path, 'full', 'tmp'))).toEqual([])

    fill(false)
    await store.data.deleteGeneration(writer.generation)
    expect(await store.pointer.swap(before?.token ?? null, { ...emptyPointer('full'), flipId: 'f' })).toBe(true)
    await store.close()
  })

  it('tells a writer that was paused in the middle of its write nothing but the truth', async () => {
    const rival = await openStore(folder.url, { dataset: 'paused' })
    await rival.pointer.swap(null, emptyPointer('paused'))
    let wake: (value: unknown) => void = () => undefined
    const until = new Promise((go) => {
      wake = go
    })
    const link = vi.fn(async (...paths: Parameters<FileSystem['link']>) => {
      await until
      return nodeFs.link(...paths)
    })
    const paused = openFolderStore(folder.url, 'paused', { ...nodeFs, link })
    const late = changePointer(paused.pointer, flipFrom(null, 1, 'late'), { dataset: 'paused' })
    await vi.waitFor(() => expect(link).toHaveBeenCalled())
    await changePointer(rival.pointer, flipFrom(null, 2, 'in time'), { dataset: 'paused' })
    // Until the number that the paused writer is about to take was passed and removed.
    for (let n = 0; n < 40; n++) {
      const change = { kind: n % 2 === 0 ? ('quarantine' as const) : ('release' as const), tag: tagOf(9) }
      await changePointer(rival.pointer, change, { dataset: 'paused' })
    }
    const before = await rival.pointer.read()
    wake(undefined)
    await expect(late).rejects.toMatchObject({ code: 'SUPERSEDED' })
    expect(await rival.pointer.read()).toEqual(before)
  })

  it('that several processes write to, killed at any moment, is whole and goes on', async () => {
    const url = `${folder.url}/killed`
    const store = await openStore(url, { dataset: 'shop' })
    for (let round = 0; round < 4; round++) {
      const writers = [2, 3].map((number) =>
        spawn(process.execPath, [fileURLToPath(new URL('./folder-writer.ts', import.meta.url)), url, String(number)], {
          stdio: 'pipe',
        }),
      )
      const ended = writers.map((writer) => once(writer, 'exit'))
      const before = (await store.data.generations()).length
      // Well into their work, and then wherever each is just now.
      await vi.waitFor(async () => expect((await store.data.generations()).length).toBeGreaterThan(before + 5), 20_000)
      for (const writer of writers) writer.kill('SIGKILL')
      expect((await Promise.all(ended)).map(([, signal]) => signal)).toEqual(['SIGKILL', 'SIGKILL'])
      await changePointer(store.pointer, { kind: 'quarantine', tag: tagOf(10 + round) }, { dataset: 'shop' })
      expect((await store.pointer.read())?.pointer.quarantined).toContain(tagOf(10 + round))
      expect((await store.leases.list()).every(({ tag }) => tag === tagOf(1))).toBe(true)
    }
    for (const { generation } of await store.data.generations()) await store.data.deleteGeneration(generation)
    expect(await nodeFs.readdir(join(folder.path, 'killed', 'shop', 'packs'))).toEqual([])
    await store.close()
  })

  it('in a folder that cannot be one is unsuitable, and says what was expected', async () => {
    const file = join(folder.path, 'file')
    await nodeFs.writeFile(file, '')
    const store = await openStore(`file:${file}`, { dataset: 'shop' })
    await expect(store.check()).rejects.toMatchObject({
      code: 'STORE_UNSUITABLE',
      message: expect.stringContaining('expected a folder that can be written'),
    })
  })

  it('finds a generation whose writer died right after creating its folder', async () => {
    const store = await openStore(folder.url, { dataset: 'early' })
    const generation = newGeneration()
    await nodeFs.mkdir(join(folder.path, 'early', 'packs', generation), { recursive: true })
    expect((await store.data.generations()).map((entry) => entry.generation)).toEqual([generation])
    await store.data.deleteGeneration(generation)
    expect(await store.data.generations()).toEqual([])
  })

  it('takes what is no lease for one of any version, until no lease of its age would last, and removes it then', async () => {
    const store = await openStore(folder.url, { dataset: 'strange' })
    await store.leases.put({ id: 'reader', tag: tagOf(1), kind: 'reader', ttlMs: 60_000 })
    const leases = join(folder.path, 'strange', 'leases')
    await nodeFs.writeFile(join(leases, 'cut'), '{"id": "cut", "ta')
    await nodeFs.writeFile(join(leases, 'other'), '{"some": "thing"}')
    await nodeFs.mkdir(join(leases, 'nested'))
    const tags = async () => (await store.leases.list()).map(({ id, tag }) => `${id} ${tag}`).sort()
    expect(await tags()).toEqual(['cut null', 'nested null', 'other null', `reader ${tagOf(1)}`])
    const longAgo = new Date(Date.now() - LEASE_TTL_MAX_MS - 120_000)
    for (const name of ['cut', 'other', 'nested']) await nodeFs.utimes(join(leases, name), longAgo, longAgo)
    expect(await tags()).toEqual([`reader ${tagOf(1)}`])
    expect(await nodeFs.readdir(leases)).toEqual(['reader'])
    await store.close()
  })

  it('leaves files alone that are nobody’s manifest and nobody’s generation', async () => {
    const store = await openStore(folder.url, { dataset: 'strangers' })
    for (const path of ['packs', 'manifests']) {
      await nodeFs.mkdir(join(folder.path, 'strangers', path), { recursive: true })
      await nodeFs.writeFile(join(folder.path, 'strangers', path, '.DS_Store'), '')
    }
    expect(await store.data.generations()).toEqual([])
    expect(await store.data.listManifests()).toEqual([])
    await store.close()
  })

  it('removes temporary files of crashed writes, once they are old', async () => {
    const store = await openStore(folder.url, { dataset: 'left' })
    await store.check()
    const tmp = join(folder.path, 'left', 'tmp')
    for (const name of ['old', 'young']) await nodeFs.writeFile(join(tmp, name), 'half')
    const longAgo = new Date(Date.now() - 2 * 3_600_000)
    await nodeFs.utimes(join(tmp, 'old'), longAgo, longAgo)
    await store.data.generations()
    expect(await nodeFs.readdir(tmp)).toEqual(['young'])
  })

  it('removes what readers counted once it is old', async () => {
    const store = await openStore(folder.url, { dataset: 'counted' })
    await store.counters.put(report({ readerId: 'old' }))
    await store.counters.put(report({ readerId: 'young' }))
    const longAgo = new Date(Date.now() - COUNTERS_KEPT_MS - 60_000)
    await nodeFs.utimes(join(folder.path, 'counted', 'counters', 'flip-1,active,old'), longAgo, longAgo)
    await store.counters.dropExpired()
    expect(await store.counters.list('flip-1')).toEqual([report({ readerId: 'young' })])
  })

  it('takes relative and absolute URLs', () => {
    expect(openFolderStore('file:./some%20where', 'shop').url).toBe(`file:${join(process.cwd(), 'some where')}`)
    expect(openFolderStore('file:///srv/versions', 'shop').url).toBe('file:/srv/versions')
  })
})

/** A file system whose disk can be filled: writes then put half of their bytes and fail, as ENOSPC does. */
function fullDisk(): { fs: FileSystem; fill: (full: boolean) => void } {
  let isFull = false
  const noSpace = () => Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  const open = async (...args: Parameters<typeof nodeFs.open>): Promise<nodeFs.FileHandle> => {
    const file = await nodeFs.open(...args)
    const writev = file.writev.bind(file)
    // The real one is generic over its buffers; what comes back is the same.
    file.writev = (async (chunks: Uint8Array[]) => {
      if (!isFull) return writev(chunks)
      const [first] = chunks as [Uint8Array]
      await file.write(first.subarray(0, first.length >> 1))
      throw noSpace()
    }) as typeof file.writev
    return file
  }
  return {
    fs: { ...nodeFs, open } as FileSystem,
    fill: (full) => {
      isFull = full
    },
  }
}
