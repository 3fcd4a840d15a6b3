-- A refresh whose window closed before the flip keeps what it sealed, for the next one to take up.
alter table snapflip.refresh_runs drop constraint refreshes_status_check;
alter table snapflip.refresh_runs add constraint refreshes_status_check check (
  status in ('FLIPPED', 'NOTHING_NEW', 'HELD', 'REJECTED', 'ROLLED_BACK', 'CANCELLED', 'KEPT', 'SKIPPED', 'FAILED')
);

-- Versions are never deleted, and a dataset that is refreshed continuously has many thousands: what is asked for by state is found by it, and
-- the next tag of a day by the last.
create index versions_by_state on snapflip.index_versions (state, dataset);
create index versions_by_day on snapflip.index_versions (dataset, day, (substring(tag from '[0-9]+$')::integer));

-- So are flips: whether the watch of a version came to its end, and which are still watched.
create index flips_by_version on snapflip.flip_intents (dataset, to_tag, epoch) where outcome = 'confirmed';
create index flips_watched on snapflip.flip_intents (dataset) where bake_until is not null and bake_outcome is null;

-- Which refresh kept, or failed with, a version: asked for by its tag.
create index refreshes_by_version on snapflip.refresh_runs (dataset, tag);
