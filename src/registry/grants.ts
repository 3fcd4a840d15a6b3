import { SnapflipError } from '../core/errors.ts'
import { type Db, select } from './transaction.ts'

/**
 * SQL that makes the three roles snapflip works with, and one for who reads reports, each with the least it needs. Run by whoever ran the migrations; running it again
 * changes nothing. Readers have no role: they never connect to PostgreSQL. None can touch the history but through
 * snapflip.record, nor write to a source.
 *
 * @param tables sources, as the definition names them (`public.products`).
 * @throws SnapflipError DEFINITION_INVALID for a table that is not there.
 */
export async function grantsSql(db: Db, { tables }: { tables: readonly string[] }): Promise<string> {
  const sources = await select<{ given: string; name: string | null }>(
    db,
    `select given, case when pg_class.oid is not null then format('%I.%I', nspname, relname) end as name
       from unnest($1::text[]) as given
       left join pg_class on pg_class.oid = to_regclass(given)
       left join pg_namespace on pg_namespace.oid = pg_class.relnamespace`,
    [tables],
  )
  const names: string[] = []
  for (const { given, name } of sources) {
    if (name === null) {
      throw new SnapflipError(
        'DEFINITION_INVALID',
        `Expected a table or view ${given}, found none. Correct \`from\` in the definition.`,
        {
          table: given,
        },
      )
    }
    if (!names.includes(name)) names.push(name)
  }
  const schemas = await select<{ name: string }>(
    db,
    `select distinct format('%I', pg_namespace.nspname) as name
       from pg_class join pg_namespace on pg_namespace.oid = pg_class.relnamespace
      where pg_class.oid = any (select to_regclass(given)::oid from unnest($1::text[]) as given)
      order by name`,
    [tables],
  )
  const [database] = await select<{ name: string }>(db, `select format('%I', current_database()) as name`, [])
  const temporary = (role: string) => `grant temporary on database ${database?.name} to ${role};\n`
  return [
    ROLES,
    WORKER,
    // Definitions are checked as temporary views.
    temporary('snapflip_worker'),
    grantSources(
      names,
      schemas.map((schema) => schema.name),
    ),
    CAPTURE,
    temporary('snapflip_capture'),
    OPERATOR,
    VIEWER,
  ].join('')
}

const ROLES = `-- Roles nobody logs in as: \`grant snapflip_worker to <the worker's login>\`.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['snapflip_worker', 'snapflip_capture', 'snapflip_operator', 'snapflip_viewer'] loop
    begin
      execute format('create role %I nologin', wanted);
    exception when duplicate_object or unique_violation then
      null; -- roles are the cluster's: another database may have brought them, even at this moment
    end;
  end loop;
end
$$;

`

/** What a worker writes; `doctor` looks whether its login may. */
export const WORKER_WRITES: Readonly<Record<string, readonly string[]>> = {
  'insert, update': [
    'refresh_runs',
    'index_versions',
    'builds',
    'flip_intents',
    'canaries',
    'dataset_holds',
    'quarantines',
    'alerts',
    'alert_deliveries',
    'compacted',
    'pins',
    'drills',
    'further_stores',
  ],
  'insert, update, delete': ['copies'],
  'insert, delete': ['gate_verdicts', 'watermarks'],
  insert: ['ruled_out_flips'],
  delete: ['changelog', 'events'],
}

/** What a worker calls; `doctor` looks here too. */
export const WORKER_CALLS: readonly string[] = [
  'snapflip.record(text, text, text, text, jsonb)',
  'snapflip.begin_lineage()',
  'snapflip.authorize(text, text, text, jsonb)',
  'snapflip.authorize_as(text, text, text, text, jsonb)',
  'snapflip.issue_ticket(text, text, jsonb)',
  'snapflip.use_ticket(uuid, text, text, jsonb, text)',
  'snapflip.waive(text, text, text, timestamptz, text)',
  'snapflip.ask_approval(uuid, text, text, text, interval)',
  'snapflip.end_approval(uuid, text)',
  'snapflip.use_approval(uuid, text, text, text, uuid)',
]

const WORKER = `-- Worker: reads everything of snapflip's, takes the steps of refreshes and rollbacks.
grant usage on schema snapflip to snapflip_worker;
grant select on all tables in schema snapflip to snapflip_worker;
grant update (epoch_registry) on snapflip.datasets to snapflip_worker;
${Object.entries(WORKER_WRITES)
  .map(
    ([rights, names]) =>
      `grant ${rights} on ${names.map((name) => `snapflip.${name}`).join(', ')} to snapflip_worker;\n`,
  )
  .join('')}grant execute on function ${WORKER_CALLS.join(', ')} to snapflip_worker;
`

/** Rights on the sources: reading, which is all a build does. Row security must let the worker see every row, or builds fail. */
function grantSources(names: readonly string[], schemas: readonly string[]): string {
  const lines = [
    ...schemas.map((schema) => `grant usage on schema ${schema} to snapflip_worker;\n`),
    ...names.map((name) => `grant select on ${name} to snapflip_worker;\n`),
  ]
  return lines.join('')
}

const CAPTURE = `
-- For whoever runs \`apply\` and \`detach\`, who must own the tables too: PostgreSQL lets nobody else set a trigger to ENABLE ALWAYS.
-- Applications need nothing: the capture functions act with their owner's rights. To append events: usage on schema snapflip.
grant usage on schema snapflip to snapflip_capture;
grant select on all tables in schema snapflip to snapflip_capture;
grant insert, update (epoch_registry, store, store_epoch, detached_at) on snapflip.datasets to snapflip_capture;
-- A definition is applied through its function alone, which asks the policy in force.
revoke insert on snapflip.definitions from snapflip_capture;
grant insert, update on snapflip.further_stores to snapflip_capture;
grant insert, delete on snapflip.copies to snapflip_capture;
grant update (manifest_sha256, sealed_manifest_sha256, generation) on snapflip.index_versions to snapflip_capture;
grant insert, update, delete on snapflip.captures to snapflip_capture;
grant delete on snapflip.changelog to snapflip_capture;
grant execute on function snapflip.record(text, text, text, text, jsonb), snapflip.authorize(text, text, text, jsonb),
  snapflip.somebody_may_apply(jsonb), snapflip.apply_definition(text, jsonb) to snapflip_capture;
revoke select on snapflip.tickets from snapflip_capture;
`

const OPERATOR = `
-- People: \`grant snapflip_operator to <a login of their own>\`. What each may do is the policy's (\`roles\` of the definition); who they are goes into
-- the history, and they write neither that nor tickets and approvals but through functions which look at it.
grant usage on schema snapflip to snapflip_operator;
grant select on all tables in schema snapflip to snapflip_operator;
revoke select on snapflip.tickets from snapflip_operator;
grant insert, update on snapflip.flip_intents, snapflip.pins, snapflip.dataset_holds, snapflip.quarantines, snapflip.alerts, snapflip.further_stores to snapflip_operator;
grant insert on snapflip.alert_deliveries to snapflip_operator;
grant update (outcome, ended_at) on snapflip.canaries to snapflip_operator;
grant delete on snapflip.copies to snapflip_operator;
grant update (state, state_at, manifest_sha256, sealed_manifest_sha256, generation) on snapflip.index_versions to snapflip_operator;
grant update (epoch_registry) on snapflip.datasets to snapflip_operator;
grant execute on function snapflip.record(text, text, text, text, jsonb), snapflip.authorize(text, text, text, jsonb),
  snapflip.issue_ticket(text, text, jsonb), snapflip.waive(text, text, text, timestamptz, text),
  snapflip.accept_anchor(text, bigint, text, text), snapflip.decide_approval(text, text, text, text, text, text) to snapflip_operator;
`

/** The views that docs/history.md documents. */
export const VIEWER_READS = ['refreshes', 'flips', 'gate_results', 'approvals', 'holds', 'versions'] as const

const VIEWER = `
-- For reports and BI tools: the views that docs/history.md documents, no table and nothing of the sources.
grant usage on schema snapflip to snapflip_viewer;
grant select on ${VIEWER_READS.map((name) => `snapflip.${name}`).join(', ')} to snapflip_viewer;
`
