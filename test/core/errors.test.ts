import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { errorsPage } from '../../scripts/errors-page.ts'
import { ERRORS, isSnapflipError, SnapflipError } from '../../src/core/errors.ts'
import { failureCode, failureMessage } from '../../src/core/failure.ts'

it('the errors page lists every code as the registry has it', async () => {
  const page = await readFile(new URL('../../runbooks/errors.md', import.meta.url), 'utf8')
  expect(page).toBe(errorsPage())
})

it('an exit code of an error is neither 0 nor 1, which mean success and an error without a code', () => {
  for (const [code, { exit }] of Object.entries(ERRORS)) expect(exit, code).toBeGreaterThan(1)
})

it('keeps cause and details, and knows its code', () => {
  const cause = new Error('socket closed')
  const error = new SnapflipError('STORE_UNREACHABLE', 'Redis does not answer.', { host: 'localhost' }, cause)
  expect(error).toMatchObject({
    code: 'STORE_UNREACHABLE',
    details: { host: 'localhost' },
    cause,
    retryable: true,
    exitCode: 5,
  })
  expect(isSnapflipError(error, 'CONFLICT')).toBe(false)
})

it('finds code and message under the layers that carried them', () => {
  const inner = new SnapflipError('CONFLICT', 'Another flip came first.')
  const outer = new Error('activity failed', { cause: inner })
  expect(failureCode(outer)).toBe('CONFLICT')
  expect(failureMessage(outer)).toBe('Another flip came first.')
  expect(failureCode(new Error('what?'))).toBeNull()
})
