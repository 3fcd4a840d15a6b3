import { type Db, select } from './transaction.ts'

/**
 * Whether one of these runs of workflows is a refresh of the dataset that was opened, intended a flip of it, or used a ticket for it: who asked for it
 * was looked at.
 */
export async function isKnownRun(
  db: Db,
  { dataset, runs }: { dataset: string; runs: ReadonlyArray<{ workflowId: string; runId: string }> },
): Promise<boolean> {
  const [row] = await select<{ known: boolean }>(
    db,
    `select exists (
       select from snapflip.refresh_runs join unnest($2::text[], $3::text[]) as run (workflow, id)
           on run.workflow = workflow_id and run.id = run_id
        where dataset = $1
     ) or exists (select from snapflip.tickets where dataset = $1 and used_by = any ($3))
       or exists (select from snapflip.flip_intents where dataset = $1 and kind = 'flip' and detail ->> 'runId' = any ($3)) as known`,
    [dataset, runs.map(({ workflowId }) => workflowId), runs.map(({ runId }) => runId)],
  )
  return row?.known ?? false
}
