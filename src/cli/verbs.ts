import type { Command } from 'commander'
import { get } from './get.ts'
import { history } from './history.ts'
import { refresh } from './refresh.ts'
import { rollback } from './rollback.ts'
import { status } from './status.ts'
import { versions } from './versions.ts'

/** In the order of the help. */
export const VERBS: readonly ((program: Command) => void)[] = [refresh, rollback, status, versions, history, get]
