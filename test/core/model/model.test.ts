import { describe, expect, it } from 'vitest'
import { GUARDS, type Guard } from './guards.ts'
import { run, type Scenario } from './scenario.ts'
import { SCENARIOS } from './scenarios.ts'

type Name = keyof typeof SCENARIOS
const scenarioOf = (name: Name): Scenario => SCENARIOS[name]

/** Where the fault shows, and as what, when the guard is switched off. */
const FAULTS: Record<Guard, [scenario: Name, broken: string]> = {
  expected: ['two refreshes and a rollback', 'of concurrent flips from one state one wins'],
  epoch: ['a database that loses its last transaction', 'no two flips have one epoch'],
  flipId: ['a rollback, and the refresh after it', 'a flip that was made is never recorded as refused'],
  retired: ['a pin beside a flip and retiring', 'nothing is retired that is pinned'],
  quarantined: ['break-glass rollbacks to a version that is being ruled out', 'no quarantined version is active'],
  hold: ['a rollback, and the refresh after it', 'a rollback stays'],
  unabsorbed: [
    'a server that loses a rollback, by the registry or without it',
    'the registry has every break-glass rollback before its next flip',
  ],
  leap: ['a server that loses break-glass rollbacks', 'no two flips have one epoch'],
  retireActive: ['retiring beside a break-glass rollback', 'nothing is retired that is active'],
  retirePrevious: ['bakes that are cut short', 'nothing is retired that is rollback target'],
  retireCandidate: ['a canary and a quarantine, whose refresh dies', 'nothing is retired that is candidate'],
  retirePinned: ['a pin beside a flip and retiring', 'nothing is retired that is pinned'],
  quarantineEndsCanary: ['a canary and a quarantine, whose refresh dies', 'no quarantined version is candidate'],
  flipEndsCanary: ['a canary and a rollback', 'a rollback stays, for every reader'],
  liftsPin: ['a pin beside a rollback and retiring', 'no quarantined version is pinned'],
  bake: ['bakes that are cut short', 'the rollback target finished its bake'],
  keepsBreakGlass: ['a server that loses a flip, and a person at the glass', 'no break-glass rollback is lost'],
  keepsProhibitions: ['a server that loses a quarantine', 'a quarantine stays'],
  activeNotRetired: ['a server that loses a write beside a retirement', 'nothing is retired that is active'],
  aboveIssued: [
    'a server that loses a rollback, by the registry or without it',
    'a flip that was made is never recorded as refused',
  ],
  hasFlip: ['a server that comes back without the pointer', 'nothing stays as it is for ever'],
  settlesFirst: ['a server that loses a rollback, by the registry or without it', 'a rollback stays'],
  joinsFlips: ['a server that loses the last of three flips', 'a flip that was made is never recorded as refused'],
  compareAndSet: ['a rollback, and the refresh after it', 'a rollback stays'],
  bound: [
    'a server that loses a rollback, by the registry or without it',
    'a flip that was made is never recorded as refused',
  ],
  fence: [
    'retiring beside a flip and a reader, one of which dies',
    'a flip that was made is never recorded as refused',
  ],
  readOutcome: [
    'retiring beside a flip and a reader, one of which dies',
    'a flip that was made is never recorded as refused',
  ],
  leaseFirst: ['retiring beside a break-glass rollback', 'a reader with a lease reads no deleted version'],
  leaseRefusesRetired: ['retiring beside a break-glass rollback', 'a reader with a lease reads no deleted version'],
  markFirst: ['retiring beside a break-glass rollback', 'a reader with a lease reads no deleted version'],
  leasesListed: ['retiring beside a break-glass rollback', 'a reader with a lease reads no deleted version'],
  tokenFirst: ['a pin beside a flip and retiring', 'nothing is deleted that is pinned'],
  absorbFirst: ['break-glass rollbacks to a version that is being ruled out', 'no break-glass rollback is lost'],
  absorbSettled: ['a server that loses a rollback, by the registry or without it', 'a rollback stays'],
  lowerEpoch: ['a server that loses break-glass rollbacks', 'epochs only rise in what a reader follows'],
  passed: ['a database that loses its last transaction', 'no rejected version is active'],
  openFlip: ['retiring beside rollbacks', 'nothing is deleted that is active'],
  cleansCanary: ['a canary whose refresh dies', 'nothing stays as it is for ever'],
  unpins: ['a pin beside a flip and retiring', 'nothing stays as it is for ever'],
}

describe('in whatever order they act, every promise holds', () => {
  it.each(Object.keys(SCENARIOS) as Name[])('%s', (name) => {
    const { states, fault } = run(scenarioOf(name), null)
    if (fault !== null) expect.fail(`${fault.broken}:\n${fault.trace.map((step) => step.label).join('\n')}`)
    console.log(`${states} states: ${name}`)
  })
})

describe('the explorer finds the fault without the guard that', () => {
  it.each(Object.entries(FAULTS) as Array<[Guard, [Name, string]]>)('%s', (guard, [name, broken]) => {
    const { fault } = run(scenarioOf(name), guard)
    expect(fault?.broken, GUARDS[guard]).toBe(broken)
  })
})
