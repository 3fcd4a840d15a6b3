-- Approvals: a person's yes to one version, bound to what was sealed. Every row is written by the functions below and by nothing else: nobody, not
-- even a worker, can write a yes. Who decides is session_user.

-- How it is known who asked: a ticket proves a login; temporal is an identity that anybody can take; workflow is nobody, a schedule say. Null in
-- refreshes from before.
alter table snapflip.refresh_runs add column requested_via text check (requested_via in ('login', 'temporal', 'workflow'));

create table snapflip.approval_requests (
  id uuid primary key default gen_random_uuid(),
  dataset text not null,
  tag text not null,
  refresh_id uuid not null unique references snapflip.refresh_runs (id),
  -- What is approved, as it was sealed when it was asked for.
  digest text not null,
  manifest_sha256 text not null,
  -- What a person has to look at.
  why text not null,
  requested_by text not null,
  requested_at timestamptz not null default clock_timestamp(),
  -- How long an unanswered request waits, and then how long a yes counts.
  valid_for interval not null,
  expires_at timestamptz not null,
  decision text check (decision in ('approved', 'rejected', 'expired', 'withdrawn')),
  decided_by text,
  decided_at timestamptz,
  reason text,
  -- The flip that it was used up by, in the transaction which intended that.
  used_by uuid unique references snapflip.flip_intents (id) deferrable initially deferred,
  used_at timestamptz,
  foreign key (dataset, tag) references snapflip.index_versions (dataset, tag),
  check ((decision is null) = (decided_at is null)),
  check ((used_by is null) = (used_at is null)),
  check (used_by is null or decision = 'approved'),
  check (decision is distinct from 'approved' or decided_by is distinct from requested_by)
);
create index approvals_by_version on snapflip.approval_requests (dataset, tag, requested_at desc);

-- Asks for the approval of the version that an open refresh has sealed. Again: the same one. Whose refresh or version is gone (PostgreSQL was
-- restored to before it, say) is refused for good: it is asked for until somebody answers.
create function snapflip.ask_approval(p_refresh uuid, p_tag text, p_manifest text, p_why text, p_valid_for interval)
returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  refresh snapflip.refresh_runs;
  sealed snapflip.index_versions;
  asked uuid;
begin
  select * into refresh from snapflip.refresh_runs where id = p_refresh;
  perform from snapflip.datasets where name = refresh.dataset for no key update;
  select id into asked from snapflip.approval_requests where refresh_id = p_refresh;
  if found then
    return asked;
  end if;
  select * into sealed from snapflip.index_versions where dataset = refresh.dataset and tag = p_tag;
  if refresh.id is null or refresh.closed_at is not null or sealed.refresh_id is distinct from p_refresh or sealed.manifest_sha256 is distinct from p_manifest then
    raise exception 'expected refresh % to be open and % to be sealed by it with manifest %, found another', p_refresh, p_tag, p_manifest
      using errcode = 'restrict_violation';
  end if;
  -- A yes to what a window then kept: the same question of another refresh has the same answer, unless whoever gave it asks now.
  update snapflip.approval_requests
     set refresh_id = p_refresh
   where refresh.requested_via in ('login', 'workflow') and id = (
     select given.id from snapflip.approval_requests as given join snapflip.refresh_runs as kept on kept.id = given.refresh_id
      where given.dataset = refresh.dataset and given.tag = p_tag and kept.status = 'KEPT'
        and given.digest = sealed.digest and given.manifest_sha256 = sealed.manifest_sha256 and given.why = p_why
        and given.decision = 'approved' and given.used_by is null and given.expires_at > clock_timestamp()
        and given.decided_by is distinct from refresh.requested_by
      order by given.decided_at desc limit 1
   )
  returning id into asked;
  if asked is not null then
    perform snapflip.append_entry(refresh.dataset, refresh.requested_by, 'approval.carried', p_tag,
      jsonb_build_object('approvalId', asked, 'refreshId', p_refresh, 'reason', p_why));
    return asked;
  end if;
  insert into snapflip.approval_requests (dataset, tag, refresh_id, digest, manifest_sha256, why, requested_by, valid_for, expires_at)
  values (refresh.dataset, p_tag, p_refresh, sealed.digest, sealed.manifest_sha256, p_why, refresh.requested_by, p_valid_for,
          clock_timestamp() + p_valid_for)
  returning id into asked;
  perform snapflip.append_entry(refresh.dataset, refresh.requested_by, 'approval.requested', p_tag,
    jsonb_build_object('approvalId', asked, 'refreshId', p_refresh, 'reason', p_why, 'digest', sealed.digest, 'manifest', sealed.manifest_sha256));
  return asked;
end
$$;

-- A person's answer to what waits, of the manifest that they looked at. outcome: decided; forbidden (verdict as of snapflip.may); or what speaks
-- against it: none, decided before, used, expired, closed, own, unverified, other. A refusal has its history entry.
create function snapflip.decide_approval(
  p_dataset text, p_tag text, p_decision text, p_reason text, p_digest text, p_manifest text,
  out outcome text, out actor text, out needed text, out has text, out policy integer, out approval_id uuid, out finding text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  verdict record;
  asked snapflip.approval_requests;
  refresh snapflip.refresh_runs;
  sealed snapflip.index_versions;
  said constant jsonb := jsonb_build_object('decision', p_decision, 'reason', p_reason);
begin
  if p_decision is null or p_decision not in ('approved', 'rejected') or coalesce(p_reason, '') !~ '\S' then
    raise exception 'expected approved or rejected, with a reason' using errcode = 'invalid_parameter_value';
  end if;
  perform from snapflip.datasets where name = p_dataset for no key update;
  verdict := snapflip.authorize(p_dataset, 'approve', p_tag, said);
  actor := verdict.actor;
  needed := verdict.needed;
  has := verdict.has;
  policy := verdict.policy;
  if not verdict.allowed then
    outcome := 'forbidden';
    return;
  end if;
  select * into asked from snapflip.approval_requests where dataset = p_dataset and tag = p_tag order by requested_at desc limit 1 for update;
  approval_id := asked.id;
  select * into refresh from snapflip.refresh_runs where id = asked.refresh_id;
  select * into sealed from snapflip.index_versions where dataset = p_dataset and tag = p_tag;
  if asked.id is null then
    outcome := 'none';
  elsif asked.used_by is not null then
    outcome := 'used';
    finding := asked.used_by::text;
  elsif asked.decision is not null then
    outcome := 'decided before';
    finding := asked.decision || coalesce(' by ' || asked.decided_by, '');
  elsif asked.expires_at <= clock_timestamp() then
    outcome := 'expired';
    finding := to_char(asked.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
  elsif refresh.closed_at is not null then
    outcome := 'closed';
    finding := refresh.status;
  elsif p_decision = 'approved' and session_user::text = asked.requested_by then
    outcome := 'own';
    finding := asked.requested_by;
  -- Whoever approves could be them, and nothing would show it.
  elsif p_decision = 'approved' and refresh.requested_via is distinct from 'login' and refresh.requested_via is distinct from 'workflow' then
    outcome := 'unverified';
    finding := asked.requested_by;
  elsif p_digest is distinct from asked.digest or p_manifest is distinct from asked.manifest_sha256 then
    outcome := 'other';
    finding := p_manifest;
  elsif sealed.digest is distinct from asked.digest or sealed.manifest_sha256 is distinct from asked.manifest_sha256 then
    outcome := 'other';
    finding := sealed.manifest_sha256;
  else
    outcome := 'decided';
    update snapflip.approval_requests
       set decision = p_decision, decided_by = session_user, decided_at = clock_timestamp(), reason = p_reason,
           expires_at = clock_timestamp() + valid_for
     where id = asked.id;
    perform snapflip.append_entry(p_dataset, session_user, 'approval.' || p_decision, p_tag,
      jsonb_build_object('approvalId', asked.id, 'refreshId', asked.refresh_id, 'reason', p_reason, 'digest', asked.digest,
                         'manifest', asked.manifest_sha256, 'requestedBy', asked.requested_by));
    return;
  end if;
  perform snapflip.append_entry(p_dataset, session_user, 'action.refused', p_tag,
    said || jsonb_build_object('action', 'approve', 'why', outcome, 'found', finding, 'approvalId', asked.id));
end
$$;

-- Ends what nobody answered: expired when its time is over, withdrawn when its refresh ends without it. Null: there was nothing to end.
create function snapflip.end_approval(p_refresh uuid, p_ending text) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  ended snapflip.approval_requests;
begin
  if p_ending is null or p_ending not in ('expired', 'withdrawn') then
    raise exception 'expected expired or withdrawn, found %', p_ending using errcode = 'invalid_parameter_value';
  end if;
  perform from snapflip.datasets
    where name = (select dataset from snapflip.approval_requests where refresh_id = p_refresh) for no key update;
  update snapflip.approval_requests
     set decision = p_ending, decided_at = clock_timestamp()
   where refresh_id = p_refresh and decision is null and (p_ending = 'withdrawn' or expires_at <= clock_timestamp())
  returning * into ended;
  if ended.id is null then
    return null;
  end if;
  perform snapflip.append_entry(ended.dataset, null, 'approval.' || p_ending, ended.tag,
    jsonb_build_object('approvalId', ended.id, 'refreshId', p_refresh, 'requestedBy', ended.requested_by));
  return ended.id;
end
$$;

-- Uses up the approval of exactly this version for a flip, in the transaction that intends it. Null: there is none that counts.
create function snapflip.use_approval(p_refresh uuid, p_tag text, p_digest text, p_manifest text, p_flip uuid) returns uuid
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update snapflip.approval_requests
     set used_by = p_flip, used_at = clock_timestamp()
   where refresh_id = p_refresh and tag = p_tag and digest = p_digest and manifest_sha256 = p_manifest
     and decision = 'approved' and used_by is null and expires_at > clock_timestamp()
  returning id
$$;

revoke all on function snapflip.ask_approval(uuid, text, text, text, interval) from public;
revoke all on function snapflip.decide_approval(text, text, text, text, text, text) from public;
revoke all on function snapflip.end_approval(uuid, text) from public;
revoke all on function snapflip.use_approval(uuid, text, text, text, uuid) from public;
