/**
 * A breadth-first explorer of every order in which actors can take their steps. States are plain JSON; two that print the same are one.
 */
export interface Step<State> {
  /** Who does what, with what outcome. */
  label: string
  to: State
}

export interface Exploration<State, S extends Step<State>> {
  states: number
  /** How often each label was seen. */
  labels: ReadonlyMap<string, number>
  /** The shortest way to a state that breaks a promise. */
  fault: { broken: string; trace: readonly S[] } | null
  /** Up to `traces` ways from the start to states where nothing more is left to do, and to each label seen for the first time. */
  traces: ReadonlyArray<readonly S[]>
}

/** Beyond it a model is no longer small: a run that reaches this is a mistake in the model. */
const STATES_MAX = 400_000

export function explore<State, S extends Step<State>>({
  start,
  steps,
  broken,
  rested,
}: {
  start: State
  steps: (state: State) => S[]
  /** What promise the state breaks, or null. */
  broken: (state: State) => string | null
  /** States that every run can still reach. Left out: not looked at. */
  rested?: (state: State) => boolean
}): Exploration<State, S> {
  const numbers = new Map<string, number>([[JSON.stringify(start), 0]])
  const states: State[] = [start]
  const cameBy: Array<{ from: number; step: S } | null> = [null]
  const cameFrom: number[][] = [[]]
  const firstEdge = new Map<string, { from: number; step: S }>()
  const labels = new Map<string, number>()
  const ends: number[] = []

  const trace = (number: number): S[] => {
    const way: S[] = []
    for (let came = cameBy[number]; came != null; came = cameBy[came.from]) way.push(came.step)
    return way.reverse()
  }
  const found = (fault: Exploration<State, S>['fault'], traces: S[][] = []) => ({
    states: states.length,
    labels,
    fault,
    traces,
  })

  for (let at = 0; at < states.length; at++) {
    const state = states[at] as State
    const promise = broken(state)
    if (promise !== null) return found({ broken: promise, trace: trace(at) })
    const next = steps(state)
    if (next.length === 0) ends.push(at)
    for (const step of next) {
      labels.set(step.label, (labels.get(step.label) ?? 0) + 1)
      if (!firstEdge.has(step.label)) firstEdge.set(step.label, { from: at, step })
      const key = JSON.stringify(step.to)
      const known = numbers.get(key)
      if (known !== undefined) {
        cameFrom[known]?.push(at)
        continue
      }
      if (states.length >= STATES_MAX) throw new Error(`Expected at most ${STATES_MAX} states. Make the model smaller.`)
      numbers.set(key, states.length)
      states.push(step.to)
      cameBy.push({ from: at, step })
      cameFrom.push([at])
    }
  }

  if (rested !== undefined) {
    const stuck = whatCannotReach(states.map(rested), cameFrom)
    if (stuck !== -1) return found({ broken: 'nothing stays as it is for ever', trace: trace(stuck) })
  }
  const ways = [...firstEdge.values()].map(({ from, step }) => [...trace(from), step])
  return found(null, [...ways, ...ends.map(trace)])
}

/** The first state from which no marked one can be reached; -1: there is none. */
function whatCannotReach(marked: readonly boolean[], cameFrom: readonly (readonly number[])[]): number {
  const can = [...marked]
  const open = marked.flatMap((is, number) => (is ? [number] : []))
  for (let number = open.pop(); number !== undefined; number = open.pop()) {
    for (const from of cameFrom[number] ?? []) {
      if (can[from]) continue
      can[from] = true
      open.push(from)
    }
  }
  return can.indexOf(false)
}
