-- What reports and BI tools may rely on: these views and their columns keep their names, types and meaning (docs/history.md has the same list), whatever
-- becomes of the tables beneath. The role snapflip_viewer reads them and no table: a view reads with the rights of its owner.
-- `with` at the top keeps PostgreSQL from letting anybody write through them, whatever they are granted: that would go by the owner's rights to the
-- tables too. It costs nothing: a condition on a view reaches the indexes of its table.

create view snapflip.refreshes as
with promised as (
  select
    id, dataset, workflow_id, run_id, reason, requested_by, "full", opened_at, closed_at, status, tag, summary, durations,
    policy_number, policy_digest, snapflip_version, requested_via
  from snapflip.refresh_runs
)
select * from promised;
comment on view snapflip.refreshes is 'One row a refresh that was begun';
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
comment on column snapflip.refreshes.policy_number is 'Policy version that it ran under; null: from before';
comment on column snapflip.refreshes.policy_digest is 'SHA-256 of that definition; null: from before';
comment on column snapflip.refreshes.snapflip_version is 'The snapflip that it ran under; null: from before';
comment on column snapflip.refreshes.requested_via is 'login: proven; temporal: an identity that anybody can take; workflow: nobody, a schedule say; null: from before';

create view snapflip.versions as
with promised as (
  select
    dataset, tag, ordinal, state, state_at, refresh_id, parent, digest, manifest_sha256, watermark, counts, created_at, sealed_at
  from snapflip.index_versions
)
select * from promised;
comment on view snapflip.versions is 'One row a version that was begun';
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

create view snapflip.gate_results as
with promised as (
  select
    refresh_id, dataset, tag, position, gate, index, verdict, summary, actual, limit_, sample_keys, at
  from snapflip.gate_verdicts
)
select * from promised;
comment on view snapflip.gate_results is 'One row a gate that looked at a version, pass or fail';
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

create view snapflip.approvals as
with promised as (
  select
    id, dataset, tag, refresh_id, digest, manifest_sha256, why, requested_by, requested_at, expires_at, decision, decided_by,
    decided_at, reason, used_by, used_at
  from snapflip.approval_requests
)
select * from promised;
comment on view snapflip.approvals is 'One row a request for a person''s yes';
comment on column snapflip.approvals.id is 'Of the request';
comment on column snapflip.approvals.dataset is 'Which dataset';
comment on column snapflip.approvals.tag is 'Version that it is about';
comment on column snapflip.approvals.refresh_id is 'Refresh that asked for it, or took up the version since';
comment on column snapflip.approvals.digest is 'Content that it is bound to';
comment on column snapflip.approvals.manifest_sha256 is 'Manifest that it is bound to';
comment on column snapflip.approvals.why is 'What there was to look at';
comment on column snapflip.approvals.requested_by is 'Who or what asked for the refresh; never whoever approved';
comment on column snapflip.approvals.requested_at is 'When it was asked for';
comment on column snapflip.approvals.expires_at is 'Until when it waits; once approved, until when that counts';
comment on column snapflip.approvals.decision is 'approved, rejected, expired or withdrawn; null: it waits';
comment on column snapflip.approvals.decided_by is 'Who decided; null: nobody';
comment on column snapflip.approvals.decided_at is 'When that was; null: it waits';
comment on column snapflip.approvals.reason is 'What whoever decided said; null: nobody did';
comment on column snapflip.approvals.used_by is 'Flip that used it up; null: none';
comment on column snapflip.approvals.used_at is 'When that was; null: not used';

create view snapflip.flips as
with promised as (
  select
    id, dataset, kind, from_tag, to_tag, epoch, refresh_id, reason, actor, intended_at, outcome, settled_at
  from snapflip.flip_intents
)
select * from promised;
comment on view snapflip.flips is 'One row a flip or rollback that was wanted';
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

create view snapflip.holds as
with promised as (
  select
    id, dataset, by, reason, since, lifted_at, lifted_by, lifted_reason
  from snapflip.dataset_holds
)
select * from promised;
comment on view snapflip.holds is 'One row a hold, lifted or not';
comment on column snapflip.holds.id is 'Of the hold';
comment on column snapflip.holds.dataset is 'Which dataset';
comment on column snapflip.holds.by is 'Who put it on hold';
comment on column snapflip.holds.reason is 'Why';
comment on column snapflip.holds.since is 'Since when';
comment on column snapflip.holds.lifted_at is 'When it was lifted; null: it holds';
comment on column snapflip.holds.lifted_by is 'Who lifted it; null: nobody yet';
comment on column snapflip.holds.lifted_reason is 'Why it was lifted; null: nothing was said';
