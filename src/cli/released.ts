import { SnapflipError } from '../core/errors.ts'
import type { Ask } from './terminal.ts'

/** What `resume` has to know of the versions that a rollback forbade. */
export interface Quarantined {
  dataset: string
  /** The versions that rollbacks left since the last resume. */
  quarantined: readonly string[]
  /** What the command line says of them. */
  release: readonly string[]
  keepQuarantine?: boolean | undefined
}

/**
 * Which of them are released; a person is asked of each that the command line says nothing of.
 *
 * @param ask null: there is nobody to be asked.
 * @throws SnapflipError USAGE
 */
export async function releasedOf(
  { dataset, quarantined, release, keepQuarantine }: Quarantined,
  ask: Ask | null,
): Promise<string[]> {
  const stray = release.filter((tag) => !quarantined.includes(tag))
  if (stray.length > 0) {
    throw new SnapflipError(
      'USAGE',
      `Expected --release with a version that was quarantined with the hold of ${dataset} (${quarantined.join(', ') || 'there is none'}), found ${stray.join(', ')}. ` +
        `Another one is released by \`snapflip release ${dataset} ${stray[0]} --reason …\`.`,
      { dataset, quarantined },
    )
  }
  const released = [...release]
  const open = quarantined.filter((tag) => !release.includes(tag))
  if (keepQuarantine || open.length === 0) return released
  if (ask === null) {
    throw new SnapflipError(
      'USAGE',
      `Expected to be told what became of ${open.join(', ')}, quarantined with the hold of ${dataset}, found neither --keep-quarantine nor --release. ` +
        `Nothing was changed: add --keep-quarantine if it was bad, or ${open.map((tag) => `--release ${tag}`).join(' ')} if it was good.`,
      { dataset, quarantined: open },
    )
  }
  for (const tag of open) {
    const answer = await ask(
      `${tag} was quarantined with this hold. Was it bad, and stays so (k), or good after all, and is released (r)? `,
    )
    if (!/^[kr]/i.test(answer.trim()))
      throw new SnapflipError('USAGE', `Expected k or r, found ${JSON.stringify(answer)}. Nothing was changed.`)
    if (/^r/i.test(answer.trim())) released.push(tag)
  }
  return released
}
