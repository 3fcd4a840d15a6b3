-- A rollback that was made without the registry has the second part of its epoch from the clock; a drill is a flip of its own kind.
alter table snapflip.flip_intents add column if not exists epoch_break_glass bigint not null default 0 check (epoch_break_glass >= 0);
alter table snapflip.flip_intents drop constraint if exists flips_dataset_epoch_key;
alter table snapflip.flip_intents drop constraint if exists flips_epoch_once;
alter table snapflip.flip_intents add constraint flips_epoch_once unique (dataset, epoch, epoch_break_glass);
alter table snapflip.flip_intents drop constraint if exists flips_kind_check;
alter table snapflip.flip_intents add constraint flips_kind_check check (kind in ('flip', 'rollback', 'drill'));

-- What an operator keeps readers on. One a dataset; the pointer has it too.
create table if not exists snapflip.pins (
  id bigint generated always as identity primary key,
  dataset text not null,
  tag text not null,
  until timestamptz not null,
  by text not null,
  reason text not null,
  since timestamptz not null default clock_timestamp(),
  lifted_at timestamptz,
  lifted_by text,
  lifted_reason text,
  foreign key (dataset, tag) references snapflip.index_versions (dataset, tag),
  check ((lifted_at is null) = (lifted_by is null))
);
create unique index if not exists pins_one_active on snapflip.pins (dataset) where lifted_at is null;

-- Rehearsed rollbacks. While one is open no refresh is: the pointer is on its way back and forth.
create table if not exists snapflip.drills (
  id uuid primary key,
  dataset text not null references snapflip.datasets (name),
  -- What was active when it began, and is again when it ended.
  from_tag text not null,
  -- The same as from_tag in a drill that only raises the epoch.
  to_tag text not null,
  by text not null,
  reason text not null,
  begun_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  outcome text check (outcome in ('DONE', 'OVERTAKEN', 'FAILED')),
  -- Milliseconds, by what they are of.
  times jsonb,
  foreign key (dataset, from_tag) references snapflip.index_versions (dataset, tag),
  foreign key (dataset, to_tag) references snapflip.index_versions (dataset, tag),
  check ((ended_at is null) = (outcome is null))
);
create unique index if not exists drills_one_open on snapflip.drills (dataset) where ended_at is null;
create index if not exists drills_by_dataset on snapflip.drills (dataset, begun_at desc);
