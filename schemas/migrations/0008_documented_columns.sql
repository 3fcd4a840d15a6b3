-- What reports and BI tools may rely on: these columns of these tables keep their names, types and meaning (docs/history.md has the same list).
-- A column without a comment is an inner matter. The role snapflip_viewer reads these tables.

comment on table snapflip.refreshes is 'One row a refresh that was begun';
comment on column snapflip.refreshes.id is 'Of the refresh';
comment on column snapflip.refreshes.dataset is 'Which dataset';
comment on column snapflip.refreshes.workflow_id is 'Of the Temporal workflow';
comment on column snapflip.refreshes.run_id is 'Of its run';
comment on column snapflip.refreshes.reason is 'What whoever asked for it said; null: nothing';
comment on column snapflip.refreshes.requested_by is 'Who or what asked for it';
comment on column snapflip.refreshes."full" is 'A build from the source was asked for, whatever changed';
comment on column snapflip.refreshes.opened_at is 'When it began';
comment on column snapflip.refreshes.closed_at is 'When it ended; null: it is open';
comment on column snapflip.refreshes.status is 'How it ended: FLIPPED, NOTHING_NEW, HELD, REJECTED, ROLLED_BACK, CANCELLED, KEPT, SKIPPED or FAILED; null: it is open';
comment on column snapflip.refreshes.tag is 'Version that it made; null: none';
comment on column snapflip.refreshes.summary is 'What came of it, in a sentence';
comment on column snapflip.refreshes.durations is 'Milliseconds of each step, by its name';

comment on table snapflip.flips is 'One row a flip or rollback that was wanted';
comment on column snapflip.flips.id is 'Flip id, as the pointer in the store carries it';
comment on column snapflip.flips.dataset is 'Which dataset';
comment on column snapflip.flips.kind is 'flip, rollback or drill';
comment on column snapflip.flips.from_tag is 'Version that readers were to leave; null: there was none';
comment on column snapflip.flips.to_tag is 'Version that readers were to go to';
comment on column snapflip.flips.epoch is 'Fencing number: of two flips of a dataset the later has the higher';
comment on column snapflip.flips.refresh_id is 'Refresh that wanted it; null: a person, or a repair';
comment on column snapflip.flips.reason is 'What whoever wanted it said; null: nothing';
comment on column snapflip.flips.actor is 'Who wanted it';
comment on column snapflip.flips.intended_at is 'When it was recorded, before the store was touched';
comment on column snapflip.flips.outcome is 'confirmed: readers went there; refused, failed: they did not; null: not known yet';
comment on column snapflip.flips.settled_at is 'When the outcome was known; null: not yet';

comment on table snapflip.gate_results is 'One row a gate that looked at a version, pass or fail';
comment on column snapflip.gate_results.refresh_id is 'Refresh whose gates they were';
comment on column snapflip.gate_results.dataset is 'Which dataset';
comment on column snapflip.gate_results.tag is 'Version that was looked at';
comment on column snapflip.gate_results.position is 'Order in which the gates ran';
comment on column snapflip.gate_results.gate is 'Which gate';
comment on column snapflip.gate_results.index is 'Which index; null: the dataset as a whole';
comment on column snapflip.gate_results.verdict is 'pass, warn, hold or reject';
comment on column snapflip.gate_results.summary is 'What was found, in a sentence';
comment on column snapflip.gate_results.actual is 'What was measured, by name';
comment on column snapflip.gate_results.limit_ is 'What was allowed, by name';
comment on column snapflip.gate_results.sample_keys is 'Hashes of some of the keys it is about';
comment on column snapflip.gate_results.at is 'When it was recorded';

comment on table snapflip.holds is 'One row a hold, lifted or not';
comment on column snapflip.holds.id is 'Of the hold';
comment on column snapflip.holds.dataset is 'Which dataset';
comment on column snapflip.holds.by is 'Who put it on hold';
comment on column snapflip.holds.reason is 'Why';
comment on column snapflip.holds.since is 'Since when';
comment on column snapflip.holds.lifted_at is 'When it was lifted; null: it holds';
comment on column snapflip.holds.lifted_by is 'Who lifted it; null: nobody yet';
comment on column snapflip.holds.lifted_reason is 'Why it was lifted; null: nothing was said';

comment on table snapflip.versions is 'One row a version that was begun';
comment on column snapflip.versions.dataset is 'Which dataset';
comment on column snapflip.versions.tag is 'Its name: vYYYYMMDD-NN';
comment on column snapflip.versions.ordinal is 'Its place in the order of versions: 1, 2, 3 and on';
comment on column snapflip.versions.state is 'building, sealed, held, rejected, candidate, active, retained, quarantined, retired or swept';
comment on column snapflip.versions.state_at is 'Since when it is in that state';
comment on column snapflip.versions.refresh_id is 'Refresh that built it; null: it was found in the store';
comment on column snapflip.versions.parent is 'Version that it was built on; null: the source alone';
comment on column snapflip.versions.digest is 'SHA-256 over what it holds: equal content, equal digest; null until it is sealed';
comment on column snapflip.versions.manifest_sha256 is 'SHA-256 of its manifest, and so of every byte of it; null until it is sealed';
comment on column snapflip.versions.watermark is 'PostgreSQL snapshot that it was cut at, with its time (at)';
comment on column snapflip.versions.counts is 'What the build saw of each index: entries, inserted, updated, deleted, bytes written';
comment on column snapflip.versions.created_at is 'When it was begun';
comment on column snapflip.versions.sealed_at is 'When it was whole; null: it is not';
