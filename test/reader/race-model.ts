import type { Content } from './dataset.ts'

/**
 * What a version holds, as a function of its ordinal alone: whoever reads a value can say whether it is of that version.
 * `stamps` and `echoes` carry the version's mark in every value, and lack other keys in each version; `slow` changes a little
 * from version to version, so that most of it is shared.
 */
export const STAMPS = 24
export const SLOW = 600
const ECHOES_A_KEY = 3

export interface Marked {
  mark: number
  key: number
}

export function stampOf(ordinal: number, key: number): Marked | undefined {
  return (ordinal * 7 + key) % 5 === 0 ? undefined : { mark: ordinal, key }
}

export function echoesOf(ordinal: number, key: number): Array<Marked & { place: number }> {
  const count = (ordinal + key) % (ECHOES_A_KEY + 1)
  return Array.from({ length: count }, (_, place) => ({ mark: ordinal, key, place }))
}

export function slowOf(ordinal: number, key: number): { revision: number; key: number } | undefined {
  const revision = Math.floor((ordinal + key) / 20)
  return (revision + key) % 9 === 0 ? undefined : { revision, key }
}

export function contentOf(ordinal: number): Content {
  const keys = (count: number) => Array.from({ length: count }, (_, key) => key)
  const present = <V>(count: number, atKey: (ordinal: number, key: number) => V | undefined) =>
    keys(count).flatMap((key) => {
      const value = atKey(ordinal, key)
      return value === undefined ? [] : [[`${key}`, value] as const]
    })
  return {
    stamps: { kind: 'unique', bits: 3, entries: present(STAMPS, stampOf) },
    echoes: {
      kind: 'many',
      entries: keys(STAMPS).flatMap((key) => echoesOf(ordinal, key).map((echo) => [`${key}`, echo] as const)),
    },
    // 2^9 blocks: two pages below a node.
    slow: { kind: 'unique', bits: 9, entries: present(SLOW, slowOf) },
  }
}
