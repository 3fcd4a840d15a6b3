/** Where a worker takes builds and gates from, beside its task queue: bound by CPU and memory, they must not keep a rollback waiting. */
export function buildsQueue(taskQueue: string): string {
  return `${taskQueue}-builds`
}
