-- Canaries, and the bakes of flips: what is watched, until when, and how it ended. An open one is settled by reading the pointer, as a flip is.

create table snapflip.canaries (
  -- The canary id that the store's pointer carries.
  id uuid primary key,
  dataset text not null references snapflip.datasets (name),
  tag text not null,
  refresh_id uuid not null references snapflip.refresh_runs (id),
  -- Of the same numbers as the flips' epochs.
  epoch bigint not null check (epoch > 0),
  -- Null: no reader is asked, the candidate is only probed, and the pointer stays as it is.
  share double precision check (share > 0 and share < 1),
  salt text not null,
  intended_at timestamptz not null default clock_timestamp(),
  ends_at timestamptz not null,
  -- Of the gate; null until it is judged.
  verdict text check (verdict in ('pass', 'warn', 'hold', 'reject')),
  -- flipped: readers are all on it. refused: by the verdict. ended: by something else.
  outcome text check (outcome in ('flipped', 'refused', 'ended')),
  ended_at timestamptz,
  foreign key (dataset, tag) references snapflip.index_versions (dataset, tag),
  unique (dataset, epoch),
  check ((outcome is null) = (ended_at is null))
);
create unique index canaries_one_open on snapflip.canaries (dataset) where outcome is null;

-- Null: no bake was declared. cutShort: another flip or a rollback came before its end, or the watch could not go on.
alter table snapflip.flip_intents
  add column bake_until timestamptz,
  add column bake_outcome text check (bake_outcome in ('baked', 'failed', 'cutShort')),
  add column bake_ended_at timestamptz,
  add check ((bake_outcome is null) = (bake_ended_at is null)),
  add check (bake_outcome is null or bake_until is not null);
