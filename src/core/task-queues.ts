/** Where a worker takes builds and gates from, beside its task queue: bound by CPU and memory, they must not keep a rollback waiting. */
export function buildsQueue(taskQueue: string): string {
  return `${taskQueue}-builds`
}

/**
 * Where it looks for something new, for continuous mode, and watches canaries and bakes: each goes on for minutes or hours, costs next to nothing, and
 * must not keep a rollback waiting.
 */
export function watchesQueue(taskQueue: string): string {
  return `${taskQueue}-watches`
}
