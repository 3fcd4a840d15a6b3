-- Waivers: a person's signed, expiring permission to pass one gate with one content. Found by the tag that the gate refused, they hold for its
-- digest: what is built again from the same source passes by the same waiver, anything else does not.

create table snapflip.waivers (
  id bigint generated always as identity primary key,
  dataset text not null references snapflip.datasets (name),
  tag text not null,
  digest text not null check (digest ~ '^[0-9a-f]{64}$'),
  gate text not null,
  by text not null,
  reason text not null check (btrim(reason) <> ''),
  since timestamptz not null default clock_timestamp(),
  until timestamptz not null,
  foreign key (dataset, tag) references snapflip.index_versions (dataset, tag),
  check (until > since)
);
create index waivers_by_content on snapflip.waivers (dataset, digest, gate);

-- What let a result that speaks against the version pass. The verdict stays as it was judged.
alter table snapflip.gate_verdicts add column waiver bigint references snapflip.waivers (id);

-- Security definer: nobody has the right to insert, so that `by` is always who is connected, never an argument. Whom the policy lets: snapflip.may
-- comes with 0010, before anybody can call this.
create function snapflip.waive(p_dataset text, p_tag text, p_gate text, p_until timestamptz, p_reason text) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  waiver bigint;
begin
  if not (snapflip.may(p_dataset, 'waive', session_user::text)).allowed then
    raise exception '% may not waive a gate of %: expected snapflip.authorize to have allowed it', session_user, p_dataset
      using errcode = 'insufficient_privilege';
  end if;
  perform from snapflip.datasets where name = p_dataset for update;
  insert into snapflip.waivers (dataset, tag, digest, gate, by, reason, until)
  select dataset, tag, digest, p_gate, session_user, btrim(p_reason), p_until
    from snapflip.index_versions
   where dataset = p_dataset and tag = p_tag
     and exists (
       select from snapflip.gate_verdicts
        where gate_verdicts.dataset = p_dataset and gate_verdicts.tag = p_tag and gate = p_gate
          and gate <> 'integrity' and verdict in ('hold', 'reject')
     )
  returning id into waiver;
  if waiver is null then
    raise exception 'expected a gate that refused % of %, found %', p_tag, p_dataset, p_gate using errcode = 'no_data_found';
  end if;
  perform snapflip.append_entry(p_dataset, null, 'gate.waived', p_tag,
    jsonb_build_object('waiver', waiver, 'gate', p_gate, 'until', p_until, 'reason', btrim(p_reason)));
  return waiver;
end
$$;

revoke all on function snapflip.waive(text, text, text, timestamptz, text) from public;
