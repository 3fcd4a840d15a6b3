import { expect, it } from 'vitest'
import { sharesOf } from '../../src/core/served-share.ts'

const canary = { tag: 'v20260518-02', share: 0.25 }
const active = 'v20260518-01'

it('all readers are on the active version, or nowhere before there is one', () => {
  expect(sharesOf({ active, canary: null, pin: null })).toEqual([{ tag: active, share: 1, why: 'active' }])
  expect(sharesOf({ active: null, canary: null, pin: null })).toEqual([])
})

it('a canary takes its share of them; one that is only probed takes none', () => {
  expect(sharesOf({ active, canary, pin: null })).toEqual([
    { tag: active, share: 0.75, why: 'active' },
    { tag: canary.tag, share: 0.25, why: 'candidate' },
  ])
  expect(sharesOf({ active, canary: { ...canary, share: null }, pin: null })).toHaveLength(1)
})

it("an operator's pin keeps all of them, whatever is active beneath and whoever would try a candidate", () => {
  const pin = { tag: 'v20260517-01' }
  expect(sharesOf({ active, canary, pin })).toEqual([{ tag: pin.tag, share: 1, why: 'pinned' }])
})
