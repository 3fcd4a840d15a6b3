import { expect, test } from 'vitest'
import { inLanes } from '../../activities/lanes.ts'

const never = new AbortController().signal
const lanesOf = (ended: string[]) =>
  ['a', 'b'].map((lane) => async () => ({ lane, end: async () => void ended.push(lane) }))

test('every item is worked on once, by lanes side by side', async () => {
  const ended: string[] = []
  const seen: Array<[number, string]> = []
  await inLanes([1, 2, 3, 4, 5], lanesOf(ended), never, async (item, lane) => {
    seen.push([item, lane])
    await new Promise(setImmediate)
  })
  expect(seen.map(([item]) => item)).toEqual([1, 2, 3, 4, 5])
  expect(new Set(seen.map(([, lane]) => lane))).toEqual(new Set(['a', 'b']))
  expect(ended.sort()).toEqual(['a', 'b'])
})

test('when one lane fails the other is stopped and ended, and the first error is thrown', async () => {
  const ended: string[] = []
  const done: number[] = []
  const failing = inLanes([1, 2, 3, 4, 5], lanesOf(ended), never, async (item, _lane, signal) => {
    if (item === 1) throw new Error('no more')
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    signal.throwIfAborted()
    done.push(item)
  })
  await expect(failing).rejects.toThrow('no more')
  expect(done).toEqual([])
  expect(ended.sort()).toEqual(['a', 'b'])
})

test('what was cancelled does not count as done', async () => {
  const stop = new AbortController()
  const cancelled = inLanes([1, 2, 3], lanesOf([]), stop.signal, async () => stop.abort(new Error('cancelled')))
  await expect(cancelled).rejects.toThrow('cancelled')
})
