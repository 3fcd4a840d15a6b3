import { appliedDefinitions } from '../registry/applied-definitions.ts'
import type { Db } from '../registry/transaction.ts'
import type { Session } from './session.ts'

/**
 * Datasets that were applied, and that this definition file has not: dropped from it, or another file's on the same database. Which of the two
 * nobody can tell but a person, so nothing is detached by itself, and the changes since their last version are kept.
 */
export async function notInFile(session: Session, registry: Db): Promise<string[]> {
  const { datasets } = await session.config()
  return [...(await appliedDefinitions(registry)).keys()].filter((name) => !(name in datasets)).sort()
}

export function droppedText(names: readonly string[]): string {
  return names
    .map(
      (name) =>
        `${name}: applied, and not in this file. Changes are captured and kept for its next refresh: if it was dropped, \`snapflip detach ${name}\` ends that.`,
    )
    .join('\n')
}
