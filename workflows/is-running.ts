/** Whether a workflow could not be started, as one runs under its id. */
export function isRunning(error: unknown): boolean {
  return error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError'
}
