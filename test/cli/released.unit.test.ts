import { expect, test } from 'vitest'
import { releasedOf } from '../../src/cli/released.ts'

const [bad, good] = ['v20260518-02', 'v20260518-03']
const held = { dataset: 'shop', quarantined: [bad, good], release: [] }

/** Answers one after another, and the versions that were asked about. */
function person(...answers: string[]) {
  const asked: string[] = []
  const ask = async (question: string) => {
    asked.push(question.split(' ', 1)[0] as string)
    return answers.shift() as string
  }
  return { asked, ask }
}

test('resume asks of each quarantined version that it was told nothing of: what was good is released, what was bad stays', async () => {
  const { asked, ask } = person('k', ' Release ')
  expect(await releasedOf(held, ask)).toEqual([good])
  expect(asked).toEqual([bad, good])

  const told = person('k')
  expect(await releasedOf({ ...held, release: [good] }, told.ask)).toEqual([good])
  expect(told.asked).toEqual([bad])
  const silent = person()
  expect(await releasedOf({ ...held, keepQuarantine: true }, silent.ask)).toEqual([])
  expect(await releasedOf({ ...held, quarantined: [] }, silent.ask)).toEqual([])
  expect(silent.asked).toEqual([])
})

test.each(['', 'y', 'no idea'])('resume takes %j for no answer, and changes nothing', async (answer) => {
  const { asked, ask } = person('r', answer)
  await expect(releasedOf(held, ask)).rejects.toMatchObject({
    code: 'USAGE',
    message: `Expected k or r, found ${JSON.stringify(answer)}. Nothing was changed.`,
  })
  expect(asked).toEqual([bad, good])
})

test('resume without a person to ask wants to be told, and of no other version', async () => {
  await expect(releasedOf({ ...held, release: [good] }, null)).rejects.toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining(`--keep-quarantine if it was bad, or --release ${bad} if it was good`),
  })
  expect(await releasedOf({ ...held, keepQuarantine: true }, null)).toEqual([])
  await expect(releasedOf({ ...held, release: ['v20260517-01'] }, null)).rejects.toMatchObject({ code: 'USAGE' })
})
