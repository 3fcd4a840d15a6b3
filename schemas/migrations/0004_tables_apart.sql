-- The names that reports are promised (refreshes, flips, gate_results, approvals, holds, versions) are views, made by 0013: the registry's tables,
-- which may change, have others. No function of the earlier migrations names one of them; indexes, constraints and triggers keep their names.

alter table snapflip.refreshes rename to refresh_runs;
alter table snapflip.versions rename to index_versions;
alter table snapflip.gate_results rename to gate_verdicts;
alter table snapflip.flips rename to flip_intents;
alter table snapflip.holds rename to dataset_holds;
