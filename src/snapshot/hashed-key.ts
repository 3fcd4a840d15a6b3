import { sha256Hex } from './hash.ts'

/** Keys are named by hash in evidence: enough to recognise one, nothing to read. */
export function hashedKey(key: string | Uint8Array): string {
  return `sha256:${sha256Hex(key).slice(0, 16)}`
}
