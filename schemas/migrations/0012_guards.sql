-- What people write with their own connections (hold, resume, quarantine, release, pin, rollback --direct, apply) they write as the verbs do, or not
-- at all: what the policy lets them, never twice, and never without the entry of the history. Workers and the owner pass: a worker's activities have
-- asked.

create function snapflip.refuse(p_expected text, p_found text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'expected %, found %', p_expected, p_found using errcode = 'insufficient_privilege';
end
$$;

create function snapflip.require_any(p_dataset text, p_actions text[]) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (
    select from unnest(p_actions) as action where (snapflip.may(p_dataset, action, session_user::text)).allowed
  ) then
    perform snapflip.refuse(format('somebody who may %s %s', array_to_string(p_actions, ' or '), p_dataset), session_user);
  end if;
end
$$;

-- All that people's verbs do.
create function snapflip.verbs() returns text[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select array['hold', 'resume', 'quarantine', 'release', 'pin', 'drill', 'rollback', 'apply']
$$;

-- One of the actions that the trigger names; none named: any.
create function snapflip.asked() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  row_ constant jsonb := to_jsonb(case tg_op when 'DELETE' then old else new end);
begin
  perform snapflip.require_any(coalesce(row_ ->> 'dataset', row_ ->> 'name'), case tg_nargs when 0 then snapflip.verbs() else tg_argv end);
  return case tg_op when 'DELETE' then old else new end;
end
$$;

-- At the end of the transaction it has an entry of these kinds, by whoever is connected: so by one who may do anything at all (snapflip.record).
-- Written by this transaction: what a login tells in another one says nothing of this one. Of several rows of quarantines each is named.
create function snapflip.told() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  row_ constant jsonb := to_jsonb(case tg_op when 'DELETE' then old else new end);
begin
  -- The entries of this transaction are the last ones: it holds the head until it ends.
  if not exists (
    select from (
      select xmin, actor, kind, version, detail from snapflip.history
       where dataset = coalesce(row_ ->> 'dataset', row_ ->> 'name') order by seq desc limit 1000
    ) as latest
     where actor = session_user and xmin = pg_current_xact_id()::xid and kind ~ tg_argv[0]
       and (tg_table_name <> 'quarantines' or version = row_ ->> 'tag' or detail -> 'quarantined' ? (row_ ->> 'tag'))
  ) then
    perform snapflip.refuse(
      format('the verbs of snapflip, with an entry of the history for each change of snapflip.%s', tg_table_name), 'none by ' || session_user);
  end if;
  return null;
end
$$;

-- A column that differs between two images of a row though it may not: all but those of its end, and these but once.
create function snapflip.rewritten(p_old jsonb, p_new jsonb, p_ends text[]) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select key from jsonb_each(p_new)
   where value is distinct from p_old -> key and not (key = any (p_ends) and p_old ->> key is null)
   limit 1
$$;

-- A row is ended once, and changes in nothing else.
create function snapflip.ended_once() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  rewritten constant text := snapflip.rewritten(to_jsonb(old), to_jsonb(new), tg_argv);
begin
  if rewritten is not null then
    perform snapflip.refuse(format('the end of a row of snapflip.%s to be written, once', tg_table_name), 'a change of ' || rewritten);
  end if;
  return new;
end
$$;

-- Holds, quarantines, pins.

create trigger asked before insert on snapflip.dataset_holds
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('hold', 'rollback');
create trigger asked before insert on snapflip.quarantines
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('quarantine', 'rollback');
create trigger asked_lifted before update on snapflip.quarantines
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('release');
create trigger asked before insert or update on snapflip.pins
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('pin', 'rollback', 'quarantine');

create trigger ended_once before update on snapflip.dataset_holds
  for each row when (not snapflip.is_worker()) execute function snapflip.ended_once('lifted_at', 'lifted_by', 'lifted_reason');
create trigger ended_once before update on snapflip.quarantines
  for each row when (not snapflip.is_worker()) execute function snapflip.ended_once('lifted_at', 'lifted_by', 'lifted_reason');
create trigger ended_once before update on snapflip.pins
  for each row when (not snapflip.is_worker()) execute function snapflip.ended_once('lifted_at', 'lifted_by', 'lifted_reason');

-- A hold gives way to another one of whoever may hold; that none is left is a resume.
create function snapflip.asked_to_resume() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform snapflip.require_any(new.dataset, case
    when exists (select from snapflip.dataset_holds where dataset = new.dataset and lifted_at is null) then '{hold,rollback,resume}'
    else '{resume}'
  end::text[]);
  return null;
end
$$;
create constraint trigger asked_to_resume after update on snapflip.dataset_holds
  deferrable initially deferred for each row when (not snapflip.is_worker()) execute function snapflip.asked_to_resume();

create constraint trigger told after insert or update on snapflip.dataset_holds deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(hold|resume|rollback\.confirmed)$');
create constraint trigger told after insert or update on snapflip.quarantines deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(quarantine|release|version\.quarantined|rollback\.confirmed)$');
create constraint trigger told after insert or update on snapflip.pins deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(pin|unpin)$');

-- Flips: by hand, readers go back alone, to what they were on before and what nobody has forbidden (or to where they are already, by a rollback that
-- was made without the registry). Any flip is settled once.

create function snapflip.guard_flip() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if new.kind <> 'rollback' or new.outcome is not null or new.refresh_id is not null or new.bake_outcome is not null or not exists (
    select from snapflip.flip_intents as earlier where earlier.dataset = new.dataset and earlier.to_tag = new.to_tag and earlier.outcome = 'confirmed'
  ) or (new.epoch_break_glass = 0 and exists (
    select from snapflip.quarantines where dataset = new.dataset and tag = new.to_tag and lifted_at is null
  )) or (select ordinal from snapflip.index_versions where dataset = new.dataset and tag = new.to_tag)
     > (select ordinal from snapflip.index_versions where dataset = new.dataset and tag = new.from_tag)
  then
    perform snapflip.refuse(
      format('a rollback of %s to an earlier version that readers were on and that is not quarantined', new.dataset),
      format('%s from %s to %s', new.kind, new.from_tag, new.to_tag));
  end if;
  return new;
end
$$;
create trigger asked before insert on snapflip.flip_intents
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('rollback');
create trigger guard before insert on snapflip.flip_intents
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_flip();

-- What a worker noted beside the intent stays; a bake is ended by what cuts it short.
create function snapflip.guard_settled() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  noted constant jsonb := coalesce(old.detail, '{}');
  rewritten text := snapflip.rewritten(to_jsonb(old) - 'detail', to_jsonb(new) - 'detail', '{outcome,settled_at,bake_outcome,bake_ended_at}');
begin
  if new.detail is distinct from old.detail and not (old.outcome is null and new.detail @> noted and new.detail ->> 'runId' is not distinct from noted ->> 'runId') then
    rewritten := 'detail';
  elsif new.bake_outcome is distinct from old.bake_outcome and new.bake_outcome <> 'cutShort' then
    rewritten := 'bake_outcome';
  end if;
  if rewritten is not null then
    perform snapflip.refuse(format('the end of flip %s to be written, once', old.id), 'a change of ' || rewritten);
  end if;
  return new;
end
$$;
create trigger asked_settled before update on snapflip.flip_intents
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('rollback', 'flip');
create trigger guard_settled before update on snapflip.flip_intents
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_settled();
create constraint trigger told after insert or update on snapflip.flip_intents deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(flip|rollback|drill)\.');

-- A canary ends with whatever moves the pointer.
create trigger asked before update on snapflip.canaries
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('rollback', 'flip');
create trigger ended_once before update on snapflip.canaries
  for each row when (not snapflip.is_worker()) execute function snapflip.ended_once('outcome', 'ended_at');
create constraint trigger told after update on snapflip.canaries deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^((flip|rollback)\.confirmed|canary\.ended)$');

-- Versions: the active one is what the last flip went to, retained ones are those that readers were on, and quarantined is what is forbidden. Asked at
-- the end of the transaction, when its flips and quarantines are there too.

create function snapflip.guard_state() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  last_tag constant text := (
    select to_tag from snapflip.flip_intents
     where dataset = new.dataset and outcome = 'confirmed' order by epoch desc, epoch_break_glass desc limit 1
  );
  is_left constant boolean := old.state = 'active' and last_tag <> new.tag;
  was_active constant boolean := exists (
    select from snapflip.flip_intents where dataset = new.dataset and to_tag = new.tag and outcome = 'confirmed'
  );
  is_forbidden constant boolean := exists (
    select from snapflip.quarantines where dataset = new.dataset and tag = new.tag and lifted_at is null
  );
  -- By a rollback that was made without the registry, and is taken over by this transaction.
  is_absorbed constant boolean := exists (
    select from snapflip.flip_intents
     where dataset = new.dataset and to_tag = new.tag and outcome = 'confirmed' and epoch_break_glass > 0 and xmin = pg_current_xact_id()::xid
  );
begin
  -- Each is a step of src/core/version-state.ts as well, or of absorb.ts.
  if not (case new.state
    when old.state then true
    when 'quarantined' then is_forbidden and (old.state in ('sealed', 'held', 'candidate', 'retained') or is_left)
    when 'sealed' then old.state = 'candidate' or (old.state = 'quarantined' and not is_forbidden)
    when 'active' then was_active and old.state in ('sealed', 'candidate', 'retained')
    when 'retained' then was_active and case old.state
      when 'quarantined' then not is_forbidden or is_absorbed
      when 'retired' then is_absorbed
      else is_left or old.state in ('sealed', 'candidate')
    end
    else false
  end) then
    perform snapflip.refuse(format('a worker to make %s of %s %s, which is %s', new.tag, new.dataset, new.state, old.state), session_user);
  end if;
  return null;
end
$$;
create constraint trigger guard_state after update of state on snapflip.index_versions deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_state();
create constraint trigger told after update on snapflip.index_versions deferrable initially deferred
  for each row when (not snapflip.is_worker())
  execute function snapflip.told('^(version\.|quarantine$|release$|(flip|rollback|drill)\.|canary\.ended$|store\.applied$)');

-- Epochs go on from what a store has seen; nobody uses them up.

create function snapflip.guard_epoch() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if new.epoch_registry - old.epoch_registry > 1000000 then
    perform snapflip.refuse(
      format('the epoch of %s to rise by a million at most', new.name), format('%s after %s', new.epoch_registry, old.epoch_registry));
  end if;
  return new;
end
$$;
create trigger guard_epoch before update of epoch_registry on snapflip.datasets
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_epoch();
create constraint trigger told after update of epoch_registry on snapflip.datasets deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(epoch\.raised|store\.applied|(flip|rollback|drill)\.)');

-- Where bytes are. Which store a dataset is in, and whether it is captured, is for whoever applies: all else is refused by it.

create trigger asked before update of store, store_epoch, detached_at on snapflip.datasets
  for each row when (not snapflip.is_worker()) execute function snapflip.asked('apply');
create constraint trigger told_applied after update of store, store_epoch, detached_at on snapflip.datasets deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(store\.applied|definition\.applied|capture\.detached)$');

create trigger asked before insert or update on snapflip.further_stores
  for each row when (not snapflip.is_worker()) execute function snapflip.asked();
create trigger asked before insert or update or delete on snapflip.copies
  for each row when (not snapflip.is_worker()) execute function snapflip.asked();
create constraint trigger told after insert or delete on snapflip.copies deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(store\.applied|version\.copied|copy\.gone)$');
create constraint trigger told after insert on snapflip.further_stores deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^(stores\.applied|store\.(followed|degraded))$');
-- Why it is degraded may be said again, in other words.
create constraint trigger told_changed after update on snapflip.further_stores deferrable initially deferred
  for each row when (to_jsonb(old) - 'why' is distinct from to_jsonb(new) - 'why' and not snapflip.is_worker())
  execute function snapflip.told('^(stores\.applied|store\.(followed|degraded))$');

-- Alerts: of stores and histories, by whoever met that. What only a worker finds only a worker tells: nobody takes its incident before.

create function snapflip.guard_alert() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'INSERT' and new.kind not in ('STORE_REBOUND', 'STORE_DEGRADED', 'HISTORY_BROKEN') then
    perform snapflip.refuse('a worker to raise ' || new.kind, session_user);
  end if;
  -- Raised again it is counted, and nothing else.
  if tg_op = 'UPDATE' and to_jsonb(new) - '{times,last_at}'::text[] is distinct from to_jsonb(old) - '{times,last_at}'::text[] then
    perform snapflip.refuse(format('alert %s to be counted alone', old.id), 'another change');
  end if;
  return new;
end
$$;
create trigger asked before update on snapflip.alerts
  for each row when (not snapflip.is_worker()) execute function snapflip.asked();
create trigger guard before insert or update on snapflip.alerts
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_alert();
create constraint trigger told after insert on snapflip.alerts deferrable initially deferred
  for each row when (not snapflip.is_worker()) execute function snapflip.told('^alert\.');

-- Sent once: nobody sends an alert of before again.
create function snapflip.guard_delivery() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not exists (select from snapflip.alerts where id = new.alert and xmin = pg_current_xact_id()::xid and raised_at >= transaction_timestamp()) then
    perform snapflip.refuse('deliveries of an alert that is raised with them', 'one of before');
  end if;
  return new;
end
$$;
create trigger guard before insert on snapflip.alert_deliveries
  for each row when (not snapflip.is_worker()) execute function snapflip.guard_delivery();

revoke all on function snapflip.refuse(text, text) from public;
revoke all on function snapflip.verbs() from public;
revoke all on function snapflip.require_any(text, text[]) from public;
revoke all on function snapflip.asked() from public;
revoke all on function snapflip.told() from public;
revoke all on function snapflip.rewritten(jsonb, jsonb, text[]) from public;
revoke all on function snapflip.ended_once() from public;
revoke all on function snapflip.asked_to_resume() from public;
revoke all on function snapflip.guard_flip() from public;
revoke all on function snapflip.guard_settled() from public;
revoke all on function snapflip.guard_state() from public;
revoke all on function snapflip.guard_epoch() from public;
revoke all on function snapflip.guard_alert() from public;
revoke all on function snapflip.guard_delivery() from public;
