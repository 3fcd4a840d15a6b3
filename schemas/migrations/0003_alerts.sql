-- Alerts: what a person must be told, once an incident, and how far each sink has it. A row is there before anything is sent, so a worker
-- that dies in between loses nothing. No reference to snapflip.datasets: an alert waits for no dataset's lock.

create table snapflip.alerts (
  id uuid primary key,
  kind text not null,
  dataset text not null,
  version text,
  -- What tells an incident from the next one of its kind: a flip id, a watermark. Raised again, it is counted and told nobody.
  incident text not null,
  summary text not null,
  -- Ids, counts and hashes; never row contents.
  evidence jsonb not null,
  runbook text not null,
  raised_at timestamptz not null default clock_timestamp(),
  times integer not null default 1 check (times > 0),
  last_at timestamptz not null default clock_timestamp(),
  unique (dataset, kind, incident)
);
create index alerts_by_time on snapflip.alerts (raised_at desc);

create table snapflip.alert_deliveries (
  alert uuid not null references snapflip.alerts (id),
  -- A name of the definition's `alerts.sinks`.
  sink text not null,
  rounds integer not null default 0 check (rounds >= 0),
  next_at timestamptz not null default clock_timestamp(),
  -- Until then a worker is at it, and no other takes it.
  claimed_until timestamptz not null default '-infinity',
  -- refused: the receiver or our own rules will not have it. expired: nobody answered for as long as it was worth telling.
  outcome text check (outcome in ('delivered', 'refused', 'expired')),
  settled_at timestamptz,
  -- What was found the last time that it could not be delivered.
  found text,
  primary key (alert, sink),
  check ((outcome is null) = (settled_at is null))
);
create index alert_deliveries_open on snapflip.alert_deliveries (next_at) where outcome is null;
