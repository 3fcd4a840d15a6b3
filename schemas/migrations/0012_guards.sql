-- What people write with their own connections (hold, resume, quarantine, release, pin, drill, rollback --direct) they write as the verbs do, or not
-- at all: what the policy lets them, and never without an entry of the history. Workers and the owner pass: a worker's activities have asked.

create function snapflip.require_any(p_dataset text, p_actions text[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from unnest(p_actions) as action where (snapflip.may(p_dataset, action, session_user::text)).allowed
  ) then
    raise exception 'expected somebody who may % %, found %', array_to_string(p_actions, ' or '), p_dataset, session_user
      using errcode = 'insufficient_privilege';
  end if;
end
$$;

-- One of the actions that the trigger names.
create function snapflip.asked() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform snapflip.require_any(new.dataset, tg_argv);
  return new;
end
$$;

-- At the end of the transaction it has an entry, by whoever is connected.
create function snapflip.told() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- The entries of this transaction are the last ones: it holds the head until it ends.
  if not exists (
    select from (select actor, at from snapflip.history where dataset = new.dataset order by seq desc limit 1000) as latest
     where actor = session_user and at >= transaction_timestamp()
  ) then
    raise exception 'expected an entry of the history with each change of snapflip.%, found none by %: expected the verbs of snapflip', tg_table_name, session_user
      using errcode = 'insufficient_privilege';
  end if;
  return null;
end
$$;

create trigger asked before insert or update on snapflip.pins
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('pin', 'rollback', 'quarantine');
create trigger asked before insert or update on snapflip.drills
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('drill', 'rollback');
create trigger asked before insert on snapflip.quarantines
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('quarantine', 'rollback');
create trigger asked_lifted before update on snapflip.quarantines
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('release');
create trigger asked before insert or update on snapflip.holds
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('hold', 'rollback', 'resume');
create trigger asked before insert on snapflip.alerts
  for each row when (not snapflip.is_worker())
  execute function snapflip.asked('hold', 'resume', 'quarantine', 'release', 'pin', 'drill', 'rollback');

-- A hold gives way to another one of whoever may hold; that none is left is a resume.
create function snapflip.asked_to_resume() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from snapflip.holds where dataset = new.dataset and lifted_at is null) then
    perform snapflip.require_any(new.dataset, '{resume}');
  end if;
  return null;
end
$$;
create constraint trigger asked_to_resume after update on snapflip.holds
  deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.asked_to_resume();

-- By hand, readers go back alone: to what they were on before.
create function snapflip.guard_flip() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform snapflip.require_any(new.dataset, '{hold,resume,quarantine,release,pin,drill,rollback}');
  if tg_op = 'INSERT' then
    perform snapflip.require_any(new.dataset, '{rollback}');
    if new.kind <> 'rollback' or new.outcome is not null or not exists (
      select from snapflip.versions
       where dataset = new.dataset and tag = new.to_tag
         and (state in ('active', 'retained')
              or exists (select from snapflip.flips where dataset = new.dataset and to_tag = new.to_tag and outcome = 'confirmed'))
    ) then
      raise exception 'expected a rollback of % to a version that readers were on, found % to %', new.dataset, new.kind, new.to_tag
        using errcode = 'insufficient_privilege';
    end if;
  elsif (new.id, new.dataset, new.kind, new.from_tag, new.to_tag, new.epoch, new.epoch_break_glass, new.refresh_id, new.bake_until)
          is distinct from
        (old.id, old.dataset, old.kind, old.from_tag, old.to_tag, old.epoch, old.epoch_break_glass, old.refresh_id, old.bake_until)
     or (old.outcome is not null and new.outcome is distinct from old.outcome)
     or (new.bake_outcome is distinct from old.bake_outcome and (old.bake_outcome is not null or new.bake_outcome <> 'cutShort')) then
    raise exception 'expected the end of flip % alone to be written, found another change', old.id using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;
create trigger guard before insert or update on snapflip.flips
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_flip();

-- What never passed its gates does not become one of those that readers may be taken to.
create function snapflip.guard_state() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform snapflip.require_any(new.dataset, '{hold,resume,quarantine,release,pin,drill,rollback}');
  if not (case new.state
    when old.state then true
    when 'quarantined' then true
    when 'sealed' then old.state in ('candidate', 'quarantined')
    when 'active' then exists (
      select from snapflip.flips
       where dataset = new.dataset and to_tag = new.tag and (outcome is null or outcome = 'confirmed')
    )
    when 'retained' then exists (
      select from snapflip.flips
       where dataset = new.dataset and to_tag = new.tag and (outcome is null or outcome = 'confirmed')
    )
    else false
  end) then
    raise exception 'expected a worker to make % of % %, found %', new.tag, new.dataset, new.state, session_user
      using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;
create trigger guard before update of state on snapflip.versions
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_state();

-- Raised again it is counted, and nothing else.
create function snapflip.guard_alert() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if (new.id, new.kind, new.dataset, new.version, new.incident, new.summary, new.evidence, new.runbook, new.raised_at)
     is distinct from (old.id, old.kind, old.dataset, old.version, old.incident, old.summary, old.evidence, old.runbook, old.raised_at) then
    raise exception 'expected alert % to be counted alone, found another change', old.id using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;
create trigger guard before update on snapflip.alerts
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_alert();

-- Whoever raised an alert delivers it, or a worker.
create function snapflip.guard_delivery() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from snapflip.alerts,
         lateral (select actor, kind, detail from snapflip.history where dataset = alerts.dataset order by seq desc limit 1000) as entry
     where alerts.id = new.alert and entry.actor = session_user
       and entry.kind = 'alert.' || lower(alerts.kind) and entry.detail ->> 'alert' = alerts.id::text
  ) then
    raise exception 'expected alert % to be delivered by whoever raised it, found %', new.alert, session_user
      using errcode = 'insufficient_privilege';
  end if;
  return null;
end
$$;
create constraint trigger guard after insert or update on snapflip.alert_deliveries
  deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.guard_delivery();

do $$
declare
  written text;
begin
  foreach written in array array['flips', 'holds', 'quarantines', 'pins', 'drills'] loop
    execute format(
      'create constraint trigger told after insert or update on snapflip.%I
         deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.told()', written);
  end loop;
end
$$;
create constraint trigger told after insert on snapflip.alerts
  deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.told();
create constraint trigger told after update of state on snapflip.versions
  deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.told();

revoke all on function snapflip.require_any(text, text[]) from public;
revoke all on function snapflip.asked() from public;
revoke all on function snapflip.told() from public;
revoke all on function snapflip.asked_to_resume() from public;
revoke all on function snapflip.guard_flip() from public;
revoke all on function snapflip.guard_state() from public;
revoke all on function snapflip.guard_alert() from public;
revoke all on function snapflip.guard_delivery() from public;
