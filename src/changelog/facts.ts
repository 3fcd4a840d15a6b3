/**
 * What `snapflip.facts` says about a table in one snapshot; stored with each watermark. Equal facts at two moments mean that every change
 * between them was captured and reads back as it was written.
 */
export interface TableFacts {
  readonly relid: number
  /** Quoted by PostgreSQL. */
  readonly name: string
  readonly alias: string
  readonly type: string
  readonly kind: 'r' | 'p' | 'v' | 'm' | 'f'
  readonly columns: readonly ColumnFacts[]
  readonly types: Readonly<Record<string, unknown>>
  /** The tables that hold the rows: the table itself, its partitions, its inheritance children. */
  readonly members: readonly MemberFacts[]
}

/** Name, type with typmod and collation, expression of a virtual generated column. */
export type ColumnFacts = readonly [name: string, type: string, expression: string | null]

interface MemberFacts {
  readonly relid: number
  readonly name: string
  readonly type: string
  readonly kind: string
  readonly persistence: string
  /** null: as the root's. */
  readonly columns: readonly ColumnFacts[] | null
  readonly xmins: string
  readonly triggers: Readonly<Record<string, readonly [oid: number, xmin: string, enabled: string, procedure: string]>>
}

export const ROW_TRIGGER = 'snapflip_capture'
export const TRUNCATE_TRIGGER = 'snapflip_truncate'

/** Tables whose rows are stored in them, and so are written to. */
export function leavesOf(table: TableFacts): readonly MemberFacts[] {
  return table.members.filter((member) => member.kind !== 'p')
}

/** Why the capture of a table cannot be relied on, whatever happened before; null when it can. */
export function captureFault(table: TableFacts): string | null {
  for (const leaf of leavesOf(table)) {
    if (leaf.kind !== 'r') return `${leaf.name} is not an ordinary table; its changes cannot be captured`
    if (leaf.persistence !== 'p') return `${leaf.name} is not a permanent table; a crash would empty it without a trace`
    for (const trigger of [ROW_TRIGGER, TRUNCATE_TRIGGER]) {
      const found = leaf.triggers[trigger]
      if (found === undefined) return `trigger ${trigger} is missing on ${leaf.name}`
      if (found[2] !== 'A') return `trigger ${trigger} on ${leaf.name} is not enabled always`
    }
  }
  return null
}

/** A table's facts among those of another moment: by identity, else (dropped and created again) by name. */
export function formerOf(facts: readonly TableFacts[], table: TableFacts): TableFacts | undefined {
  return facts.find(({ relid }) => relid === table.relid) ?? facts.find(({ name }) => name === table.name)
}

/** Why changes between two moments with these facts may be missing or unreadable; null when all are there. The most telling reason comes first. */
export function factsDiffer(before: TableFacts | undefined, now: TableFacts): string | null {
  if (before === undefined) return `${now.name} was not captured when the parent was built`
  if (before.relid !== now.relid)
    return `${now.name} is another table than the parent's (dropped and created again, or renamed)`
  const leavesNow = new Map(leavesOf(now).map((leaf) => [leaf.relid, leaf]))
  for (const leaf of leavesOf(before)) {
    if (!leavesNow.has(leaf.relid)) return `partition ${leaf.name} of ${now.name} was detached or dropped`
  }
  const leavesBefore = new Map(leavesOf(before).map((leaf) => [leaf.relid, leaf]))
  for (const leaf of leavesOf(now)) {
    if (!leavesBefore.has(leaf.relid)) return `partition ${leaf.name} of ${now.name} was attached or created`
  }
  const columns = columnsDiffer(before.columns, now.columns)
  if (columns !== null) return `columns of ${now.name} changed: ${columns}`
  for (const name of new Set([...Object.keys(before.types), ...Object.keys(now.types)])) {
    if (JSON.stringify(before.types[name]) !== JSON.stringify(now.types[name]))
      return `type ${name}, used by ${now.name}, changed`
  }
  const fault = captureFault(now)
  if (fault !== null) return fault
  for (const leaf of leavesOf(now)) {
    const former = leavesBefore.get(leaf.relid)
    if (JSON.stringify(former?.columns) !== JSON.stringify(leaf.columns))
      return `columns of partition ${leaf.name} changed`
    for (const trigger of [ROW_TRIGGER, TRUNCATE_TRIGGER]) {
      const [was, is] = [former?.triggers[trigger], leaf.triggers[trigger]]
      if (was?.[0] !== is?.[0]) return `trigger ${trigger} on ${leaf.name} was created again`
      if (was?.[1] !== is?.[1]) return `trigger ${trigger} on ${leaf.name} was altered (disabled and enabled again)`
    }
    if (former?.xmins !== leaf.xmins)
      return `columns of ${leaf.name} were altered (ALTER COLUMN may change values without firing a trigger)`
  }
  if (before.name !== now.name) return `${before.name} was renamed to ${now.name}`
  return null
}

function columnsDiffer(before: readonly ColumnFacts[], now: readonly ColumnFacts[]): string | null {
  const former = new Map(before.map((column) => [column[0], column]))
  const current = new Map(now.map((column) => [column[0], column]))
  for (const [name, type] of before) {
    const column = current.get(name)
    if (column === undefined) return `${name} is gone`
    if (column[1] !== type) return `${name} was ${type}, is ${column[1]}`
    if (column[2] !== former.get(name)?.[2]) return `${name} is generated by another expression`
  }
  for (const [name] of now) if (!former.has(name)) return `${name} is new`
  return JSON.stringify(before) === JSON.stringify(now) ? null : 'their order is another'
}
