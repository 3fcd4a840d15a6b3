-- The registry: what is known of datasets, versions, refreshes, flips and holds, and the history that cannot be
-- quietly rewritten. Every change of state locks its row of snapflip.datasets first and writes its history entry last:
-- in that order, two transactions never wait for each other in a ring.

create schema if not exists snapflip;

create table snapflip.datasets (
  name text primary key,
  -- First part of the last epoch issued. Raised under the row's lock, by committed transactions only; never lowered.
  epoch_registry bigint not null default 0 check (epoch_registry >= 0),
  -- The store it was applied with, without credentials. Versions are nowhere else: another one is refused until it is applied.
  store text,
  -- Flips up to this epoch were made in another store, and say nothing of this one.
  store_epoch bigint not null default 0,
  -- Capture was taken off on purpose: no refresh opens until the definition is applied again.
  detached_at timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

create function snapflip.refuse_lower_epoch() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'the epoch of % only rises: expected at least %, found %', old.name, old.epoch_registry, new.epoch_registry
    using errcode = 'restrict_violation';
end
$$;

create trigger epochs_only_rise before update on snapflip.datasets
  for each row when (new.epoch_registry < old.epoch_registry) execute function snapflip.refuse_lower_epoch();

create table snapflip.definitions (
  dataset text not null references snapflip.datasets (name),
  number integer not null check (number > 0),
  body jsonb not null,
  -- SHA-256 (hex) over body::text.
  digest text not null check (digest ~ '^[0-9a-f]{64}$'),
  applied_at timestamptz not null default clock_timestamp(),
  applied_by text not null,
  primary key (dataset, number)
);

create table snapflip.refreshes (
  id uuid primary key,
  dataset text not null references snapflip.datasets (name),
  workflow_id text not null,
  run_id text not null,
  reason text,
  requested_by text not null,
  "full" boolean not null,
  opened_at timestamptz not null default clock_timestamp(),
  closed_at timestamptz,
  status text check (
    status in ('FLIPPED', 'NOTHING_NEW', 'HELD', 'REJECTED', 'ROLLED_BACK', 'CANCELLED', 'SKIPPED', 'FAILED')
  ),
  tag text,
  summary text,
  durations jsonb,
  check ((closed_at is null) = (status is null))
);
-- The lock: one open refresh a dataset, whatever workflow ids people choose.
create unique index refreshes_one_open on snapflip.refreshes (dataset) where closed_at is null;
create index refreshes_by_dataset on snapflip.refreshes (dataset, opened_at desc);

create table snapflip.versions (
  dataset text not null references snapflip.datasets (name),
  tag text not null check (tag ~ '^v[0-9]{8}-[0-9]{2,}$'),
  -- The order of versions, never the tag's text.
  ordinal integer not null check (ordinal > 0),
  day date not null,
  state text not null default 'building' check (
    state in (
      'building', 'sealed', 'held', 'rejected', 'candidate', 'active', 'retained', 'quarantined', 'retired', 'swept'
    )
  ),
  state_at timestamptz not null default clock_timestamp(),
  -- Null: found in the store by a registry that did not know it (restored, or behind after a failover).
  refresh_id uuid references snapflip.refreshes (id),
  parent text,
  digest text check (digest ~ '^[0-9a-f]{64}$'),
  manifest_sha256 text check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  -- The generation that sealed it.
  generation text check (generation ~ '^[0-9a-f]{32}$'),
  watermark jsonb,
  counts jsonb,
  created_at timestamptz not null default clock_timestamp(),
  sealed_at timestamptz,
  primary key (dataset, tag),
  unique (dataset, ordinal),
  -- One version a refresh: allocating again gives the same one.
  unique (refresh_id),
  foreign key (dataset, parent) references snapflip.versions (dataset, tag),
  check (sealed_at is null or (digest is not null and manifest_sha256 is not null)),
  -- Of a version that was found, what its manifest says, if that can be read.
  check (sealed_at is null or refresh_id is null or (generation is not null and watermark is not null)),
  check (state in ('building', 'retired', 'swept') or sealed_at is not null)
);
create unique index versions_one_active on snapflip.versions (dataset) where state = 'active';

create table snapflip.builds (
  generation text not null check (generation ~ '^[0-9a-f]{32}$'),
  store text not null,
  dataset text not null references snapflip.datasets (name),
  refresh_id uuid not null references snapflip.refreshes (id),
  attempt integer not null check (attempt > 0),
  -- What the attempt reads from: not retired while its refresh is open.
  parent text,
  begun_at timestamptz not null default clock_timestamp(),
  outcome text check (outcome in ('sealed', 'abandoned', 'swept')),
  ended_at timestamptz,
  primary key (generation, store),
  foreign key (dataset, parent) references snapflip.versions (dataset, tag),
  check ((outcome is null) = (ended_at is null))
);
create index builds_by_refresh on snapflip.builds (refresh_id);
create index builds_unfinished on snapflip.builds (dataset) where outcome is null or outcome = 'abandoned';

create table snapflip.gate_results (
  refresh_id uuid not null references snapflip.refreshes (id),
  dataset text not null,
  tag text not null,
  -- As the gates ran.
  position integer not null,
  gate text not null,
  index text,
  verdict text not null check (verdict in ('pass', 'warn', 'hold', 'reject')),
  summary text not null,
  actual jsonb not null,
  limit_ jsonb not null,
  sample_keys text[] not null,
  at timestamptz not null default clock_timestamp(),
  primary key (dataset, tag, position),
  foreign key (dataset, tag) references snapflip.versions (dataset, tag)
);

create table snapflip.flips (
  -- The flip id that the store's pointer carries.
  id uuid primary key,
  dataset text not null references snapflip.datasets (name),
  kind text not null check (kind in ('flip', 'rollback')),
  from_tag text,
  to_tag text not null,
  epoch bigint not null check (epoch > 0),
  refresh_id uuid references snapflip.refreshes (id),
  reason text,
  actor text not null,
  intended_at timestamptz not null default clock_timestamp(),
  outcome text check (outcome in ('confirmed', 'refused', 'failed')),
  settled_at timestamptz,
  detail jsonb,
  -- Never issued twice.
  unique (dataset, epoch),
  foreign key (dataset, from_tag) references snapflip.versions (dataset, tag),
  foreign key (dataset, to_tag) references snapflip.versions (dataset, tag),
  check ((outcome is null) = (settled_at is null))
);
create index flips_open on snapflip.flips (dataset) where outcome is null;

-- Flips whose workflow failed before they were intended: a paused attempt that intends one later is refused.
create table snapflip.ruled_out_flips (
  flip_id uuid primary key,
  dataset text not null references snapflip.datasets (name),
  at timestamptz not null default clock_timestamp()
);

create table snapflip.holds (
  id bigint generated always as identity primary key,
  dataset text not null references snapflip.datasets (name),
  by text not null,
  reason text not null,
  since timestamptz not null,
  lifted_at timestamptz,
  lifted_by text,
  lifted_reason text,
  check ((lifted_at is null) = (lifted_by is null))
);
create unique index holds_one_active on snapflip.holds (dataset) where lifted_at is null;

create table snapflip.quarantines (
  id bigint generated always as identity primary key,
  dataset text not null,
  tag text not null,
  by text not null,
  reason text not null,
  since timestamptz not null default clock_timestamp(),
  lifted_at timestamptz,
  lifted_by text,
  lifted_reason text,
  foreign key (dataset, tag) references snapflip.versions (dataset, tag),
  check ((lifted_at is null) = (lifted_by is null))
);
create unique index quarantines_one_active on snapflip.quarantines (dataset, tag) where lifted_at is null;

-- History -------------------------------------------------------------------------------------------------------------

create table snapflip.history (
  -- 1, 2, 3 ... without a gap: a number that is missing is an entry that was removed.
  seq bigint primary key check (seq > 0),
  at timestamptz not null,
  dataset text,
  actor text not null,
  kind text not null,
  version text,
  detail jsonb not null,
  prev_hash bytea not null,
  hash bytea not null
);
create index history_by_dataset on snapflip.history (dataset, seq desc);

-- The end of the chain. Its lock puts the entries of all transactions in one order.
create table snapflip.history_head (
  single boolean primary key default true check (single),
  seq bigint not null,
  hash bytea not null
);
insert into snapflip.history_head (seq, hash) values (0, decode(repeat('00', 32), 'hex'));

create function snapflip.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'snapflip.% is append-only: expected entries from snapflip.record(...) alone, found %', tg_table_name, lower(tg_op)
    using errcode = 'restrict_violation';
end
$$;

-- Always: session_replication_role = replica does not get round them.
create trigger append_only before update or delete on snapflip.history
  for each row execute function snapflip.refuse_change();
create trigger append_only_truncate before truncate on snapflip.history
  for each statement execute function snapflip.refuse_change();
create trigger head_moves_by_one before update on snapflip.history_head
  for each row when (new.seq is distinct from old.seq + 1) execute function snapflip.refuse_change();
create trigger head_stays before delete on snapflip.history_head
  for each row execute function snapflip.refuse_change();
create trigger head_stays_truncate before truncate on snapflip.history_head
  for each statement execute function snapflip.refuse_change();
alter table snapflip.history enable always trigger append_only;
alter table snapflip.history enable always trigger append_only_truncate;
alter table snapflip.history_head enable always trigger head_moves_by_one;
alter table snapflip.history_head enable always trigger head_stays;
alter table snapflip.history_head enable always trigger head_stays_truncate;

-- One field of the canonical text: its length in UTF-8 bytes makes the whole injective. Null and the empty text differ.
create function snapflip.history_field(name text, value text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case when value is null then name || ' -' else name || ' ' || octet_length(convert_to(value, 'UTF8')) || ':' || value end || E'\n'
$$;

-- The text whose SHA-256 is an entry's hash, one line a field, in this order:
--   <name> <bytes of value>:<value>     or     <name> -     for null
-- at is UTC with microseconds (2026-05-18T09:30:00.000000Z), detail PostgreSQL's text of the jsonb, prev_hash lower-case hex.
-- src/registry/verify-history.ts computes the same without asking the database for it.
create function snapflip.history_text(
  seq bigint, at timestamptz, dataset text, actor text, kind text, version text, detail jsonb, prev_hash bytea
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select snapflip.history_field('seq', seq::text)
    || snapflip.history_field('at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    || snapflip.history_field('dataset', dataset)
    || snapflip.history_field('actor', actor)
    || snapflip.history_field('kind', kind)
    || snapflip.history_field('version', version)
    || snapflip.history_field('detail', detail::text)
    || snapflip.history_field('prev_hash', encode(prev_hash, 'hex'))
$$;

-- Appends one entry, in the caller's transaction. Security definer, so that nobody needs the right to insert otherwise.
-- Takes the head's row lock until the transaction ends: the last thing a transaction does.
create function snapflip.record(p_dataset text, p_actor text, p_kind text, p_version text, p_detail jsonb)
returns bigint
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

revoke all on function snapflip.record(text, text, text, text, jsonb) from public;
