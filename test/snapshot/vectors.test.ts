import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { uncompressSync } from 'lz4-napi'
import { expect, test } from 'vitest'
import xxhash from 'xxhash-wasm'
import type { Manifest } from '../../schemas/manifest.ts'
import { FOLDER, makeVectors, type Vector } from './make-vectors.ts'

test('the builder writes the vectors byte for byte: a difference is a new format', async () => {
  const made = await makeVectors()
  expect(readdirSync(FOLDER).sort()).toEqual([...made.keys()].sort())
  for (const [name, bytes] of made) {
    const kept = readFileSync(join(FOLDER, name))
    if (name.endsWith('.json')) expect(JSON.parse(String(kept)), name).toEqual(JSON.parse(String(Buffer.from(bytes))))
    else expect(Buffer.from(bytes).equals(kept), name).toBe(true)
  }
})

const vectors = readdirSync(FOLDER).filter((name) => name.endsWith('.json'))

/** A second reader, written from docs/format.md alone and sharing no code with the first. */
test.each(vectors)('a reader written from the format page alone reads %s', async (file) => {
  const vector = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Vector
  const { h64Raw } = await xxhash()
  const load = (name: string) => readFileSync(join(FOLDER, name))
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
  const place = (generation: string, pack: number, offset: number) => `${generation}/${pack}/${offset}`
  const files = new Map(
    Object.entries(vector.objects).map(([name, at]) => [place(at.generation, at.pack, at.offset), name]),
  )
  const object = (generation: string, pack: number, offset: number) =>
    load(files.get(place(generation, pack, offset)) as string)

  const manifestBytes = load(vector.manifest)
  expect(sha(manifestBytes)).toBe(vector.sha256)
  const manifest = JSON.parse(manifestBytes.toString('utf8')) as Manifest
  for (const [name, wanted] of Object.entries(vector.entries)) {
    const index = manifest.indexes[name] as Manifest['indexes'][string]
    const find = (key: Buffer): string[] => {
      const block = Number(h64Raw(key, BigInt(`0x${index.seed}`)) >> BigInt(64 - index.bits)) % 2 ** index.bits
      let ref = { ...index.location }
      for (let level = index.location.depth; ; level--) {
        const bytes = object(ref.generation, ref.pack, ref.offset)
        expect(bytes.length).toBe(ref.length)
        expect(sha(bytes)).toBe(ref.sha256)
        expect(bytes.toString('latin1', 0, 8)).toBe(`SFPG\x01\x01${String.fromCharCode(level)}\0`)
        const first = bytes.readUInt32LE(8)
        const rows = bytes.readUInt32LE(12)
        const at = 20 + 20 * bytes.readUInt32LE(16)
        const row = level === 0 ? block - first : Math.floor((block - first) / (256 * 512 ** (level - 1)))
        const source = bytes.readUInt16LE(at + 2 * row)
        if (source === 0xffff) return []
        const generation = bytes.toString('hex', 20 + 20 * source, 36 + 20 * source)
        const pack = bytes.readUInt32LE(36 + 20 * source)
        const offset = bytes.readUInt32LE(at + 2 * rows + 4 * row)
        const length = bytes.readUInt32LE(at + 6 * rows + 4 * row)
        if (level > 0) {
          const hash = at + 10 * rows + 32 * row
          ref = { ...ref, generation, pack, offset, length, sha256: bytes.toString('hex', hash, hash + 32) }
          continue
        }
        const stored = object(generation, pack, offset)
        expect(stored.length).toBe(length)
        expect(h64Raw(stored)).toBe(bytes.readBigUInt64LE(at + 10 * rows + 8 * row))
        const raw = stored[0] === 0 ? stored.subarray(1) : uncompressSync(stored.subarray(1))
        const values: string[] = []
        for (let p = 0; p < raw.length; ) {
          const fields: Buffer[] = []
          for (let n = index.kind === 'many' ? 3 : 2; n > 0; n--) {
            fields.push(raw.subarray(p + 4, p + 4 + raw.readInt32BE(p)))
            p += 4 + raw.readInt32BE(p)
          }
          if (fields[0]?.equals(key)) values.push(String(fields.at(-1)))
        }
        return values
      }
    }
    for (const { key, values } of wanted) expect(find(Buffer.from(key)), key).toEqual(values)
    for (const key of vector.absent) expect(find(Buffer.from(key)), key).toEqual([])
  }
})
