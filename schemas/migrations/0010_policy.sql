-- Who may do what, decided where nobody gets round it: by session_user, against the definition applied last. A refusal is a verdict, never an
-- exception, which would take its history entry back with it.

-- From the least to the most: who has one has all before it.
create function snapflip.ranks() returns setof text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select unnest(array['viewer', 'operator', 'approver', 'admin'])
$$;

-- The one decision. No definition, or none with roles: everybody who may connect. An action that the policy does not know (made by a later
-- snapflip than applied it) wants an admin.
create function snapflip.may(
  p_dataset text, p_action text, p_actor text,
  out allowed boolean, out needed text, out has text, out policy integer
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  ranks constant text[] := array(select snapflip.ranks());
  body jsonb;
begin
  select definitions.number, definitions.body into policy, body
    from snapflip.definitions where dataset = p_dataset order by number desc limit 1;
  if body -> 'roles' is null then
    allowed := true;
    return;
  end if;
  needed := coalesce(body -> 'may' ->> p_action, 'admin');
  select rank into has
    from snapflip.ranks() with ordinality as known (rank, weight)
   where body -> 'roles' -> rank ? p_actor
      or (p_actor like 'temporal:%' and body -> 'roles' -> rank ? 'temporal:*')
   order by weight desc limit 1;
  allowed := coalesce(array_position(ranks, has) >= array_position(ranks, needed), false);
end
$$;

-- The verdict on an actor that the caller has verified, or knows to be unverified (temporal:<identity>): for workers.
create function snapflip.authorize_as(
  p_dataset text, p_action text, p_actor text, p_version text, p_detail jsonb,
  out allowed boolean, out actor text, out needed text, out has text, out policy integer
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  verdict record;
begin
  verdict := snapflip.may(p_dataset, p_action, p_actor);
  allowed := verdict.allowed;
  actor := p_actor;
  needed := verdict.needed;
  has := verdict.has;
  policy := verdict.policy;
  if not allowed then
    perform snapflip.append_entry(p_dataset, p_actor, 'action.refused', p_version,
      coalesce(p_detail, '{}') || jsonb_build_object('action', p_action, 'needed', needed, 'has', has, 'policy', policy));
  end if;
end
$$;

-- The verdict on whoever is connected.
create function snapflip.authorize(
  p_dataset text, p_action text, p_version text, p_detail jsonb,
  out allowed boolean, out actor text, out needed text, out has text, out policy integer
)
language sql security definer set search_path = pg_catalog, pg_temp as $$
  select * from snapflip.authorize_as(p_dataset, p_action, session_user::text, p_version, p_detail)
$$;

-- Proof of who started a workflow: written by the starter's own connection, named in the workflow's request, and used up by its first step.
create table snapflip.tickets (
  id uuid primary key default gen_random_uuid(),
  dataset text not null,
  action text not null,
  actor text not null,
  -- What was asked for: a ticket seen on its way is of no use for anything else.
  request jsonb not null,
  issued_at timestamptz not null default clock_timestamp(),
  -- The run that used it.
  used_by text,
  used_at timestamptz,
  check ((used_by is null) = (used_at is null))
);

create function snapflip.issue_ticket(p_dataset text, p_action text, p_request jsonb) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  issued uuid;
begin
  if not (snapflip.may(p_dataset, p_action, session_user::text)).allowed then
    raise exception '% may not % %: expected snapflip.authorize to have allowed it', session_user, p_action, p_dataset
      using errcode = 'insufficient_privilege';
  end if;
  insert into snapflip.tickets (dataset, action, actor, request)
  values (p_dataset, p_action, session_user, p_request)
  returning id into issued;
  return issued;
end
$$;

-- Whose ticket it is; null: there is none for this request, or it was used by another run, or it is too old. Again for the same run: the same.
create function snapflip.use_ticket(p_ticket uuid, p_dataset text, p_action text, p_request jsonb, p_run text) returns text
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update snapflip.tickets
     set used_by = p_run, used_at = coalesce(used_at, clock_timestamp())
   where id = p_ticket and dataset = p_dataset and action = p_action and request = p_request
     and coalesce(used_by, p_run) = p_run
     and (used_by = p_run or issued_at > clock_timestamp() - interval '1 day')
  returning actor
$$;

-- Whether anybody who can log in could apply another definition after this one.
create function snapflip.somebody_may_apply(p_body jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select p_body -> 'roles' is null or exists (
    select from snapflip.ranks() with ordinality as known (rank, weight)
      join pg_roles on p_body -> 'roles' -> rank ? rolname and rolcanlogin
     where weight >= array_position(array(select snapflip.ranks()), coalesce(p_body -> 'may' ->> 'apply', 'admin'))
  )
$$;

-- A policy version: number, whole body, author. What is in force decides who may make the next one; the first is free. One that would leave
-- nobody who can log in and may apply is refused. outcome: applied, same, forbidden (a verdict, as above), nobody.
create function snapflip.apply_definition(
  p_dataset text, p_body jsonb,
  out outcome text, out actor text, out needed text, out has text, out policy integer, out number integer, out digest text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  verdict record;
  reattached boolean;
begin
  insert into snapflip.datasets (name) values (p_dataset) on conflict do nothing;
  select detached_at is not null into strict reattached from snapflip.datasets where name = p_dataset for no key update;
  verdict := snapflip.authorize(p_dataset, 'apply', null, '{}');
  actor := verdict.actor;
  needed := verdict.needed;
  has := verdict.has;
  policy := verdict.policy;
  if not verdict.allowed then
    outcome := 'forbidden';
    return;
  end if;
  if not snapflip.somebody_may_apply(p_body) then
    outcome := 'nobody';
    return;
  end if;
  -- Under the policy that has let them: the next one may not.
  if reattached then
    update snapflip.datasets set detached_at = null where name = p_dataset;
  end if;
  outcome := 'same';
  select definitions.number, definitions.digest into number, digest
    from snapflip.definitions where dataset = p_dataset and body = p_body
     and definitions.number = verdict.policy;
  if number is null then
    outcome := 'applied';
    insert into snapflip.definitions (dataset, number, body, digest, applied_by)
    values (p_dataset, coalesce(verdict.policy, 0) + 1, p_body,
            encode(sha256(convert_to(p_body::text, 'UTF8')), 'hex'), session_user)
    returning definitions.number, definitions.digest into number, digest;
  end if;
  if outcome = 'applied' or reattached then
    perform snapflip.append_entry(p_dataset, session_user, 'definition.applied', null,
      jsonb_build_object('number', number, 'digest', digest));
  end if;
end
$$;

-- Workers alone open refreshes.
create function snapflip.is_worker() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select has_table_privilege(session_user, 'snapflip.refresh_runs', 'insert')
$$;

-- One more link of the chain. Granted to nobody: record and the functions that decide call it.
create function snapflip.append_entry(p_dataset text, p_actor text, p_kind text, p_version text, p_detail jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  head snapflip.history_head;
  entry snapflip.history;
begin
  select * into strict head from snapflip.history_head for update;
  entry.seq := head.seq + 1;
  entry.at := clock_timestamp();
  entry.dataset := p_dataset;
  -- session_user, not current_user: this function's owner acts for nobody.
  entry.actor := coalesce(p_actor, session_user);
  entry.kind := p_kind;
  entry.version := p_version;
  entry.detail := coalesce(p_detail, '{}');
  entry.prev_hash := head.hash;
  entry.hash := sha256(convert_to(snapflip.history_text(
    entry.seq, entry.at, entry.dataset, entry.actor, entry.kind, entry.version, entry.detail, entry.prev_hash
  ), 'UTF8'));
  insert into snapflip.history select entry.*;
  update snapflip.history_head set seq = entry.seq, hash = entry.hash;
  return entry.seq;
end
$$;

-- Nobody but a worker speaks for others: another's entry names who is connected, and whom they acted for. Nor do people say anything but what their
-- verbs do; of a move, only that of one which is in the registry.
create or replace function snapflip.record(p_dataset text, p_actor text, p_kind text, p_version text, p_detail jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  move constant text[] := regexp_match(p_kind, '^(flip|rollback|drill)\.(intended|confirmed|refused|failed|absorbed)$');
begin
  if snapflip.is_worker() then
    return snapflip.append_entry(p_dataset, p_actor, p_kind, p_version, p_detail);
  end if;
  perform snapflip.require_any(p_dataset, snapflip.verbs());
  if not (case
    when move is not null then exists (
      select from snapflip.flip_intents where dataset = p_dataset and kind = move[1] and id::text = p_detail ->> 'flipId'
    )
    when p_kind = 'canary.ended' then exists (
      select from snapflip.canaries where dataset = p_dataset and id::text = p_detail ->> 'canaryId' and outcome is not null
    )
    when p_kind in ('store.followed', 'store.degraded') then exists (
      select from snapflip.further_stores
       where dataset = p_dataset and store = p_detail ->> 'store' and state = case p_kind when 'store.degraded' then 'degraded' else 'current' end
    )
    else p_kind ~ ('^(hold|resume|quarantine|release|pin|unpin|epoch\.raised|version\.(active|retained|quarantined|restored)|copy\.gone'
                   || '|alert\.[a-z_]+|capture\.[a-z]+|stores?\.applied|(refresh|drill)\.cancelled|schedule\.(un)?paused)$')
  end) then
    raise exception 'expected an entry that people write themselves, found % by %', p_kind, session_user using errcode = 'insufficient_privilege';
  end if;
  return snapflip.append_entry(p_dataset, null, p_kind, p_version,
    case when p_actor <> session_user then coalesce(p_detail, '{}') || jsonb_build_object('onBehalfOf', p_actor) else p_detail end);
end
$$;

-- A person knows why the history does not lead to the end that a flip left of it in a store, and takes it as it is from here on. The entry names
-- exactly that end, and what is found where it was; by session_user, whom the policy lets.
create function snapflip.accept_anchor(p_dataset text, p_seq bigint, p_hash text, p_reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  found text := (select encode(hash, 'hex') from snapflip.history where seq = p_seq);
begin
  if not (snapflip.may(p_dataset, 'accept', session_user::text)).allowed then
    raise exception '% may not accept an anchor of %: expected snapflip.authorize to have allowed it', session_user, p_dataset
      using errcode = 'insufficient_privilege';
  end if;
  if found = p_hash or btrim(p_reason) = '' then
    raise exception 'expected an anchor that the history does not lead to, and why, found %:% and %', p_seq, p_hash, p_reason
      using errcode = 'no_data_found';
  end if;
  return snapflip.append_entry(p_dataset, null, 'anchor.accepted', null,
    jsonb_build_object('seq', p_seq, 'hash', p_hash, 'found', found, 'reason', btrim(p_reason)));
end
$$;

-- Which policy a refresh ran under, and which snapflip; null in refreshes from before.
alter table snapflip.refresh_runs add column policy_number integer;
alter table snapflip.refresh_runs add column policy_digest text;
alter table snapflip.refresh_runs add column snapflip_version text;

revoke all on function snapflip.ranks() from public;
revoke all on function snapflip.somebody_may_apply(jsonb) from public;
revoke all on function snapflip.may(text, text, text) from public;
revoke all on function snapflip.authorize_as(text, text, text, text, jsonb) from public;
revoke all on function snapflip.authorize(text, text, text, jsonb) from public;
revoke all on function snapflip.issue_ticket(text, text, jsonb) from public;
revoke all on function snapflip.use_ticket(uuid, text, text, jsonb, text) from public;
revoke all on function snapflip.apply_definition(text, jsonb) from public;
revoke all on function snapflip.accept_anchor(text, bigint, text, text) from public;
revoke all on function snapflip.append_entry(text, text, text, text, jsonb) from public;
