import { expect, test } from 'vitest'
import { present } from '../../activities/probe.ts'
import { canaryPolicySchema } from '../../schemas/watch.ts'
import { probeResult } from '../../src/core/canary-judgement.ts'
import { SnapflipError } from '../../src/core/errors.ts'

const KEYS = ['a', 'b', 'c', 'd']

/** Of these keys `a` and `b` are there; whoever asks for one of `broken` gets the error, whatever else was asked for. */
const pin = (broken: readonly string[], error: Error) => ({
  getManyBytes: async (_index: string, keys: ReadonlyArray<unknown>) => {
    const names = (keys as string[][]).map(([name]) => name as string)
    if (names.some((name) => broken.includes(name))) throw error
    return names.map((name) => (name < 'c' ? [Buffer.from('1')] : []))
  },
})

test('keys that cannot be read are told from those that are missing, and why goes into the evidence', async () => {
  const corrupt = new SnapflipError('CORRUPT', 'block 7 of products is not what was sealed')
  const found = await present(pin(['b', 'd'], corrupt), 'products', KEYS)
  expect(found).toEqual({ there: [true, null, false, null], cause: corrupt.message })
  const counts = { keys: 4, failedOnCandidate: 2, failedOnActive: 0, missingOnCandidate: 0, missingOnActive: 0 }
  const policy = canaryPolicySchema.parse({ share: 0.1, forMs: 60_000 })
  const result = probeResult({ ...counts, cause: found.cause, sampleKeys: [] }, policy, 'no reader is asked')
  expect(result.summary).toContain(`2 fail on the candidate alone (${corrupt.message})`)
})

test('a store that does not answer, and a fault of this code, say nothing of the version: the probe fails, and is tried again', async () => {
  for (const error of [new SnapflipError('STORE_UNREACHABLE', 'no answer'), new TypeError('a bug')])
    await expect(present(pin(['a'], error), 'products', KEYS)).rejects.toBe(error)
})
