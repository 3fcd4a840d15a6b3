import {
  absorber,
  baker,
  breakGlass,
  canaryWorker,
  cleaner,
  flipper,
  follower,
  leaser,
  pinner,
  quarantiner,
  reconciler,
  resumer,
  retirer,
  rollbacker,
} from './actors.ts'
import type { Scenario } from './scenario.ts'

/** Each small enough to be looked at whole; together they have every actor meet every other it can hurt. */
export const SCENARIOS = {
  'two refreshes and a rollback': {
    world: { versions: { 1: 'retained', 2: 'active', 3: 'sealed', 4: 'sealed' }, active: 2, previous: 1 },
    actors: { third: flipper({ to: 3 }), fourth: flipper({ to: 4 }), back: rollbacker({ from: 2 }), cleaner },
  },
  'replies that are lost': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { crashes: 1, lostReplies: 2 },
    },
    actors: { third: flipper({ to: 3 }), back: rollbacker(), cleaner, follower },
    mortal: ['third', 'back'],
  },
  'a rollback, and the refresh after it': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { lostReplies: 1 },
    },
    actors: { back: rollbacker(), third: flipper({ to: 3 }), resumer, cleaner },
  },
  'a database that loses its last transaction': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed', 4: 'sealed', 5: 'rejected' },
      active: 2,
      previous: 1,
      faults: { restores: 1 },
    },
    actors: { third: flipper({ to: 3 }), fourth: flipper({ to: 4 }), fifth: flipper({ to: 5 }) },
  },
  'retiring beside a flip and a reader, one of which dies': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { crashes: 1 },
    },
    actors: { third: flipper({ to: 3 }), reader: leaser, sweeper: retirer([1, 2, 3]), cleaner },
    mortal: ['third', 'reader'],
    builds: { 3: 'third' },
    comesTo: 'swept',
  },
  'retiring beside rollbacks': {
    world: { versions: { 1: 'retained', 2: 'retained', 3: 'active' }, active: 3, previous: 2 },
    actors: {
      back: rollbacker({ to: 1 }),
      again: rollbacker({ to: 2 }),
      reader: leaser,
      sweeper: retirer([1, 2, 3]),
    },
    comesTo: 'swept',
  },
  'retiring beside a break-glass rollback': {
    world: { versions: { 1: 'retained', 2: 'retained', 3: 'active' }, active: 3, previous: 2 },
    actors: {
      glass: breakGlass({ to: 1, at: '2026-05-18T10:00:00Z' }),
      sweeper: retirer([1, 2, 3]),
      reader: leaser,
      absorber,
    },
    comesTo: 'swept',
  },
  'break-glass rollbacks to a version that is being ruled out': {
    world: {
      versions: { 1: 'retained', 2: 'retained', 3: 'active' },
      active: 3,
      previous: 2,
      faults: { lostReplies: 1 },
    },
    actors: {
      glass: breakGlass({ at: '2026-05-18T10:00:00Z' }),
      second: breakGlass({ to: 1, at: '2026-05-18T10:00:01Z' }),
      ruler: quarantiner(2),
      absorber,
    },
  },
  'a canary and a quarantine, whose refresh dies': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { crashes: 1 },
    },
    actors: { third: canaryWorker(3), ruler: quarantiner(3), sweeper: retirer([1, 2, 3]), cleaner },
    mortal: ['third'],
    builds: { 3: 'third' },
    comesTo: 'swept',
  },
  'a canary whose refresh dies': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { crashes: 1 },
    },
    actors: { third: canaryWorker(3), sweeper: retirer([1, 2, 3]), cleaner },
    mortal: ['third'],
    builds: { 3: 'third' },
    comesTo: 'swept',
  },
  'a canary and a rollback': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { lostReplies: 1 },
    },
    actors: { third: canaryWorker(3), back: rollbacker({ from: 2 }), sweeper: retirer([1, 2, 3]), cleaner },
    builds: { 3: 'third' },
    comesTo: 'swept',
  },
  'a pin beside a flip and retiring': {
    world: { versions: { 1: 'retained', 2: 'retained', 3: 'active', 4: 'sealed' }, active: 3, previous: 2 },
    actors: { pinner: pinner(1), fourth: flipper({ to: 4 }), sweeper: retirer([1, 2, 4]) },
    builds: { 4: 'fourth' },
    comesTo: 'swept',
  },
  'a pin beside a rollback and retiring': {
    world: { versions: { 1: 'retained', 2: 'retained', 3: 'active' }, active: 3, previous: 2 },
    actors: { pinner: pinner(3), back: rollbacker(), ruler: quarantiner(1), sweeper: retirer([1, 3]) },
    comesTo: 'swept',
  },
  'bakes that are cut short': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed', 4: 'sealed' },
      active: 2,
      previous: 1,
    },
    actors: {
      third: flipper({ to: 3, bake: true }),
      fourth: flipper({ to: 4, bake: true }),
      stood: baker('third'),
      back: rollbacker({ from: 4 }),
      sweeper: retirer([2, 3]),
    },
    builds: { 3: 'third' },
  },
  'a server that loses a flip, and a person at the glass': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { failovers: 1, crashes: 1 },
    },
    actors: {
      third: flipper({ to: 3 }),
      glass: breakGlass({ to: 1, at: '2026-05-18T10:00:00Z' }),
      reconciler,
      absorber,
      cleaner,
      follower,
    },
    mortal: ['absorber'],
  },
  'a server that loses break-glass rollbacks': {
    world: {
      versions: { 1: 'retained', 2: 'retained', 3: 'active' },
      active: 3,
      previous: 2,
      faults: { failovers: 2 },
    },
    actors: {
      glass: breakGlass({ to: 2, at: '2026-05-18T10:00:00Z' }),
      second: breakGlass({ to: 1, at: '2026-05-18T10:00:01Z' }),
      reconciler,
      absorber,
      follower,
    },
  },
  'a server that loses a rollback, by the registry or without it': {
    world: {
      versions: { 1: 'retained', 2: 'retained', 3: 'active' },
      active: 3,
      previous: 2,
      faults: { failovers: 1 },
    },
    actors: {
      glass: breakGlass({ to: 2, at: '2026-05-18T10:00:00Z' }),
      back: rollbacker({ to: 1 }),
      reconciler,
      absorber,
      cleaner,
    },
  },
  'a server that loses a canary, its end or a quarantine': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { failovers: 1 },
    },
    actors: { third: canaryWorker(3), back: rollbacker({ from: 2 }), reconciler, cleaner },
    builds: { 3: 'third' },
    comesTo: 'served',
  },
  'a server that loses the last of three flips': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { failovers: 1 },
    },
    actors: {
      third: flipper({ to: 3 }),
      back: rollbacker({ from: 3, to: 2 }),
      again: rollbacker({ from: 2, to: 1 }),
      reconciler,
      cleaner,
    },
  },
  'a server that loses a quarantine': {
    world: {
      versions: { 1: 'retained', 2: 'retained', 3: 'active' },
      active: 3,
      previous: 2,
      faults: { failovers: 1 },
    },
    actors: {
      ruler: quarantiner(1),
      glass: breakGlass({ to: 1, at: '2026-05-18T10:00:00Z', waits: true }),
      reconciler,
    },
  },
  'a server that loses a write beside a retirement': {
    world: {
      versions: { 1: 'retained', 2: 'retained', 3: 'active' },
      active: 3,
      previous: 2,
      faults: { failovers: 1 },
    },
    actors: {
      sweeper: retirer([1], { marks: false }),
      glass: breakGlass({ to: 1, at: '2026-05-18T10:00:00Z' }),
      second: breakGlass({ to: 2, at: '2026-05-18T10:00:01Z' }),
      reconciler,
      absorber,
    },
  },
  'a server that comes back without the pointer': {
    world: {
      versions: { 1: 'retained', 2: 'active', 3: 'sealed' },
      active: 2,
      previous: 1,
      faults: { losses: 1, crashes: 1 },
    },
    actors: { third: flipper({ to: 3 }), back: rollbacker(), reconciler, cleaner },
    mortal: ['third'],
    comesTo: 'served',
  },
} satisfies Record<string, Scenario>
