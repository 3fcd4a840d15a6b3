import type { Content } from './dataset.ts'

/** 1500 products in 2^10 blocks, which are four pages below one node. */
export function shop(mark: number, changed = 1500): Content {
  const ids = Array.from({ length: 1500 }, (_, id) => id)
  const markOf = (id: number) => (id < changed ? mark : 1)
  return {
    products: { kind: 'unique', bits: 10, entries: ids.map((id) => [`${id}`, { id, mark: markOf(id) }] as const) },
    byCategory: {
      kind: 'many',
      entries: ids.slice(0, 60).map((id) => [`c${id % 7}`, { id, mark }] as const),
    },
    prices: { kind: 'unique', keyParts: 2, entries: [[['de', '7'], mark * 100] as const] },
  }
}
