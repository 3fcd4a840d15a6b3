import { createHash, hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/**
 * xxh64 straight on the WebAssembly module inside xxhash-wasm. Its JavaScript wrapper copies each input and allocates a
 * view for it; called on bytes that already lie in the module's memory a 220-byte entry costs 25 ns instead of 150 ns,
 * and a build hashes every entry three times.
 *
 * The memory is shared by all of this file's functions, so nothing in it survives a call to another of them, nor an await.
 */
interface Module {
  mem: { readonly buffer: ArrayBuffer; grow(pages: number): number }
  xxh64(start: number, length: number, seed: bigint): bigint
}
// Every supported Node has it; its types come with the DOM's only.
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: { Module: new (bytes: Uint8Array) => object; Instance: new (module: object) => { exports: unknown } }
}

const PAGE_BYTES = 65_536

const root = dirname(dirname(createRequire(import.meta.url).resolve('xxhash-wasm')))
const wasm = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(join(root, 'workerd', 'xxhash.wasm'))))
const { mem, xxh64: xxh64At } = wasm.exports as Module
let memory = Buffer.from(mem.buffer)

// A u64 leaves the module as a bigint; through these views it is stored, added and split without one on the heap.
const u64 = new BigUint64Array(1)
const halves = new Uint32Array(u64.buffer)
const HIGH = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0

/** The module's memory, at least `bytes` long: write there, then `hashAt`. A view is stale once the memory has grown. */
export function hashMemory(bytes: number): Buffer {
  if (memory.length < bytes) {
    mem.grow(Math.ceil((bytes - memory.length) / PAGE_BYTES))
    memory = Buffer.from(mem.buffer)
  }
  return memory
}

/** xxh64 of `[start, end)` of the module's memory. */
export function hashAt(start: number, end: number, seed: bigint): bigint {
  u64[0] = xxh64At(start, end - start, seed)
  return u64[0]
}

/** Adds xxh64 of `[start, end)` of the module's memory to `sums[at]`, mod 2^64. */
export function addHashAt(sums: BigUint64Array, at: number, start: number, end: number, seed: bigint): void {
  // Never undefined: every caller passes an index inside `sums`.
  sums[at] = (sums[at] as bigint) + xxh64At(start, end - start, seed)
}

export function xxh64(bytes: Uint8Array, seed = 0n): bigint {
  hashMemory(bytes.length).set(bytes)
  return hashAt(0, bytes.length, seed)
}

/** The top 32 bits of xxh64 of a key: block and partition numbers are their leading bits. */
export function hashKey(bytes: Uint8Array, start: number, end: number, seed: bigint): number {
  const length = end - start
  const target = hashMemory(length)
  if (length <= 64) for (let i = 0; i < length; i++) target[i] = bytes[start + i] as number
  else target.set(bytes.subarray(start, end))
  u64[0] = xxh64At(0, length, seed)
  return halves[HIGH] as number
}

/** Block number of a key hash (see `hashKey`) in a layout of 2^bits blocks. */
export function blockOf(keyHash: number, bits: number): number {
  return bits === 0 ? 0 : keyHash >>> (32 - bits)
}

export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export function hex64(value: bigint): string {
  return BigInt.asUintN(64, value).toString(16).padStart(16, '0')
}

export function parseHex64(text: string): bigint {
  return BigInt(`0x${text}`)
}
