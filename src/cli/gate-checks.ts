import type { DatasetDefinition } from '../../schemas/config.ts'
import { checkSink } from '../observe/send-alert.ts'
import { type Check, checked } from './check.ts'

/** Gates that ask somebody, as far as can be seen without asking. */
export async function lookAtWebhooks(dataset: string, { gates }: DatasetDefinition): Promise<Check[]> {
  const checks: Check[] = []
  for (const [name, gate] of Object.entries(gates.user ?? {})) {
    if (gate.kind !== 'webhook') continue
    const at = `datasets.${dataset}.gates.user.${name}`
    checks.push(await checked(`gate ${dataset} user:${name}`, () => checkSink(at, gate)))
  }
  return checks
}
