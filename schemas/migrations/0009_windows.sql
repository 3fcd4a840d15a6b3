-- A refresh whose window closed before the flip keeps what it sealed, for the next one to take up.
alter table snapflip.refresh_runs drop constraint refreshes_status_check;
alter table snapflip.refresh_runs add constraint refreshes_status_check check (
  status in ('FLIPPED', 'NOTHING_NEW', 'HELD', 'REJECTED', 'ROLLED_BACK', 'CANCELLED', 'KEPT', 'SKIPPED', 'FAILED')
);

-- Versions are never deleted, and a dataset that is refreshed continuously has many thousands: what is asked for by state is found by it.
create index versions_by_state on snapflip.index_versions (state, dataset);

-- A refresh that takes up what a window kept looks for it by its tag.
create index refreshes_kept on snapflip.refresh_runs (dataset, tag) where status = 'KEPT';
