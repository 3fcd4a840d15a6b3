/** A pg_snapshot's text, `xmin:xmax:xip,…`, in parts. */
function parse(snapshot: string): { xmax: bigint; open: ReadonlySet<string> } {
  const [, xmax = '0', open = ''] = snapshot.split(':')
  return { xmax: BigInt(xmax), open: new Set(open === '' ? [] : open.split(',')) }
}

/** Whether every transaction visible in `a` is visible in `b` too: a window from `a` then holds every window from `b`. */
export function isWithin(a: string, b: string): boolean {
  const [first, second] = [parse(a), parse(b)]
  return first.xmax <= second.xmax && [...second.open].every((xid) => BigInt(xid) >= first.xmax || first.open.has(xid))
}

/** Of some snapshots the one within all others, by position; -1 when there is none. One server's snapshots always have one. */
export function earliest(snapshots: readonly string[]): number {
  return snapshots.findIndex((candidate) => snapshots.every((other) => isWithin(candidate, other)))
}
