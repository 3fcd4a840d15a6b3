/** What a reader needs of a store, as docs/format.md tells where things lie. */
export interface VectorStore {
  pointer(): Promise<unknown>
  manifest(tag: string): Promise<Buffer>
  object(location: object): Promise<Buffer>
}
export function folderStore(folder: string, dataset: string): VectorStore
export function readVersion(
  store: VectorStore,
  options?: { tag?: string; absent?: Record<string, string[]> },
): Promise<{ tag: string; digest: string; indexes: Record<string, Record<string, string[]>> }>
export function xxh64(bytes: Buffer, seed: bigint): bigint
