-- Up Migration

create schema if not exists snapflip;

-- Committed changes of captured tables: the row before and after, as PostgreSQL's record text. Append-only; pruned only behind the oldest
-- watermark still needed. Windows are read through the index on xid; seq tells the changes of one transaction apart (see explain).
create table snapflip.changelog (
  seq bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  relid oid not null,
  -- Insert, update, delete; and what leaves a gap: truncate, and a row that could not be captured (x, with its reason).
  op "char" not null check (op in ('i', 'u', 'd', 't', 'x')),
  before text,
  after text,
  reason text
);
create index changelog_xid on snapflip.changelog (xid);
create index changelog_gaps on snapflip.changelog (xid) where op in ('t', 'x');
-- A publication FOR ALL TABLES would otherwise refuse the pruning DELETE.
alter table snapflip.changelog replica identity full;

-- The row text must not depend on who writes: every setting that an output function looks at is pinned, and the owner's rights are used, so
-- that no writer needs a grant. The function names no column: DDL on the table can never make a write fail. Nor can a row that PostgreSQL
-- stores and cannot write as text (larger than 1 GB; a type whose output fails): a gap is left instead, and the next build is a full one.
create function snapflip.capture() returns trigger language plpgsql security definer
  set datestyle = 'ISO, YMD' set timezone = 'UTC' set intervalstyle = 'postgres' set extra_float_digits = 1 set bytea_output = 'hex'
  set lc_monetary = 'C' set xmloption = 'content' set quote_all_identifiers = off set search_path = pg_catalog, pg_temp
as $$
declare
  -- Longer values no version can hold, and before and after must fit into one row of the changelog, which PostgreSQL holds to 1 GB.
  image_bytes_max constant integer := 268435456;
  row_before text;
  row_after text;
  gap text;
begin
  -- Not a cast: an owner of the type may have made one of his own. This block writes nothing, so that its subtransaction takes no number of its own: it costs half a microsecond.
  begin
    if tg_op <> 'INSERT' then
      row_before := textin(record_out(old));
    end if;
    if tg_op <> 'DELETE' then
      row_after := textin(record_out(new));
    end if;
    if greatest(octet_length(row_before), octet_length(row_after)) > image_bytes_max then
      gap := format('too large: %s bytes as text, expected at most %s', greatest(octet_length(row_before), octet_length(row_after)), image_bytes_max);
    end if;
  exception when others then
    gap := case when sqlstate in ('53200', '54000') or sqlerrm like 'invalid memory alloc request size%'
      then 'too large to be written as text' else 'it cannot be written as text' end || format(' (SQLSTATE %s)', sqlstate);
  end;
  if gap is null then
    insert into snapflip.changelog (relid, op, before, after)
      values (tg_relid, case tg_op when 'INSERT' then 'i' when 'UPDATE' then 'u' else 'd' end, row_before, row_after);
  else
    insert into snapflip.changelog (relid, op, reason) values (tg_relid, 'x', gap);
  end if;
  return null;
end
$$;

create function snapflip.capture_truncate() returns trigger language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  insert into snapflip.changelog (relid, op) values (tg_relid, 't');
  return null;
end
$$;

-- Tables that capture was attached to, with every table that got a trigger for it: what `detach` must clean.
create table snapflip.captures (
  relid oid primary key,
  name text not null,
  members oid[] not null,
  attached_at timestamptz not null default now()
);

-- What events indexes are made of. seq is taken under a lock on the key (see append_event) from a sequence without cache, so that for one key
-- its order is the order of commit.
create table snapflip.events (
  seq bigint generated always as identity (cache 1),
  xid xid8 not null default pg_current_xact_id(),
  dataset text not null,
  index text not null,
  key bytea not null,
  value text
);
create index events_xid on snapflip.events (xid, seq);
create index events_key on snapflip.events (dataset, index, key, seq);
alter table snapflip.events replica identity full;

-- The snapshot behind which events are compacted: of those it sees, the last of each key, and none of keys that it sees deleted. One row at
-- most; what a later pruning looks at begins there.
create table snapflip.compacted (
  id boolean primary key default true check (id),
  snapshot pg_snapshot not null
);

-- A row for each key that was ever appended to, by a hash of it: what append_event locks. Row locks are as many as a transaction needs;
-- advisory ones stand in the server's lock table, which some ten thousand fill.
create table snapflip.event_keys (hash bigint primary key);

-- A key's parts are joined by a zero byte, which text cannot hold (no literal: a caller's standard_conforming_strings decides how one reads). The size limits are the format's; a dataset's own are smaller.
create function snapflip.append_event(dataset text, index text, key text[], value text) returns void language plpgsql security definer
  set search_path = pg_catalog, pg_temp set client_min_messages = warning
as $$
declare
  joined bytea;
begin
  if dataset is null or index is null or key is null or cardinality(key) = 0 or array_position(key, null) is not null then
    raise exception 'snapflip.append: expected a dataset, an index and a key without nulls' using errcode = 'null_value_not_allowed';
  end if;
  select string_agg(convert_to(part, 'UTF8'), decode('00', 'hex') order by n) into joined from unnest(key) with ordinality as parts (part, n);
  if octet_length(joined) not between 1 and 65535 then
    raise exception 'snapflip.append: expected a key of 1 to 65535 bytes, found %', octet_length(joined) using errcode = 'string_data_length_mismatch';
  end if;
  if octet_length(value) > 268435456 then
    raise exception 'snapflip.append: expected a value of at most 268435456 bytes, found %', octet_length(value)
      using errcode = 'string_data_right_truncation';
  end if;
  perform value::json;
  -- Inserts the key's row or locks it, and never writes a new version of it: until this transaction ends, others that append to the key wait.
  insert into snapflip.event_keys values (hashtextextended(dataset || E'\n' || index || E'\n' || encode(joined, 'hex'), 0))
    on conflict (hash) do update set hash = excluded.hash where false;
  insert into snapflip.events (dataset, index, key, value)
    values (append_event.dataset, append_event.index, joined, append_event.value);
end
$$;

-- append(dataset, index, key, value): value as json, jsonb, or text that is json; null deletes the key. The text overloads are what a bare
-- literal or an untyped parameter resolves to. Who has USAGE on the schema may append.
create function snapflip.append(dataset text, index text, key text, value text) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, array[key], value); end;
create function snapflip.append(dataset text, index text, key text, value json) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, array[key], value::text); end;
create function snapflip.append(dataset text, index text, key text, value jsonb) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, array[key], value::text); end;
create function snapflip.append(dataset text, index text, key text[], value text) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, key, value); end;
create function snapflip.append(dataset text, index text, key text[], value json) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, key, value::text); end;
create function snapflip.append(dataset text, index text, key text[], value jsonb) returns void language sql
  begin atomic select snapflip.append_event(dataset, index, key, value::text); end;

-- A watermark is a stored snapshot. Its own row is its anchor: committed synchronously under an xid that is not below the snapshot's xmax, it
-- keeps PostgreSQL from handing out the xids of aborted transactions again after a crash, and everything the snapshot sees from getting lost.
-- `facts` says what capture and columns were like in that snapshot. Where a watermark's row exists, all changes since it exist too.
create table snapflip.watermarks (
  id uuid primary key,
  snapshot pg_snapshot not null,
  xid xid8 not null,
  nonce bytea not null check (octet_length(nonce) = 16),
  system text not null,
  at timestamptz not null,
  kind text not null check (kind in ('version', 'chunk')),
  facts jsonb not null,
  check (xid >= pg_snapshot_xmax(snapshot))
);

-- The cluster and database that a watermark belongs to.
create function snapflip.system() returns text language sql stable
  begin atomic
    select (select system_identifier from pg_catalog.pg_control_system())::text
      || '/' || (select oid from pg_catalog.pg_database where datname = current_database())::text;
  end;

-- The clusters and databases whose transactions `xid` means in changelog, events and watermarks. One row, that of this database, where they can
-- be read; another's where a dump was restored or its rows were loaded, and then begin_lineage is called for.
create table snapflip.lineage (system text not null);
alter table snapflip.lineage replica identity full;

-- A transaction number of another cluster says nothing here, whether it is above this one's counter or below it. So nothing of it stays: no
-- window can reach back beyond the first watermark taken here, which has every row that is visible now. The changes go; the events stay, once
-- each, with a number (2, PostgreSQL's own for a row that everybody sees) that is in no window. Whoever takes a watermark locks
-- snapflip.watermarks before the snapshot: none is on its way meanwhile. Needs read committed, where each statement sees the present.
create function snapflip.begin_lineage() returns void language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  top bigint;
begin
  lock table snapflip.watermarks in share row exclusive mode;
  if array(select l.system from snapflip.lineage l) = array[snapflip.system()] then
    return;
  end if;
  delete from snapflip.watermarks;
  delete from snapflip.changelog;
  delete from snapflip.compacted;
  update snapflip.events set xid = '2' where xid <> '2';
  -- Logical replication brings rows and leaves their sequence behind: new events would count as older than all it brought.
  select max(seq) into top from snapflip.events;
  if top > (select last_value from snapflip.events_seq_seq) then
    perform setval('snapflip.events_seq_seq', top);
  end if;
  delete from snapflip.lineage;
  insert into snapflip.lineage values (snapflip.system());
end
$$;
revoke all on function snapflip.begin_lineage() from public;

-- What decides whether the changes of a table were all captured and how their text reads, in the caller's snapshot: per root table its identity,
-- the tables that hold its rows, their triggers and columns, and the types these are made of. The xmin of a catalogue row changes with every
-- update of it and never comes back, so equal facts at two moments mean that nothing happened between them (a trigger disabled and enabled
-- again, ALTER COLUMN TYPE USING to the same type). No relfilenode: VACUUM FULL and CLUSTER change no row.
create function snapflip.facts(relids oid[]) returns jsonb language sql stable
  set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
  with recursive
  tree (root, relid) as (
    select r, r from unnest(relids) r
    union
    select t.root, i.inhrelid from tree t join pg_inherits i on i.inhparent = t.relid where not i.inhdetachpending
  ),
  columns as (
    select t.root, t.relid, a.attnum, a.attname, a.atttypid, a.attgenerated, a.xmin::text as xmin,
      format_type(a.atttypid, a.atttypmod)
        || case when a.attcollation <> 0 and a.attcollation <> y.typcollation then ' collate ' || a.attcollation::regcollation::text else '' end as type,
      case when a.attgenerated = 'v' then pg_get_expr(d.adbin, d.adrelid) end as expression
    from tree t
    join pg_attribute a on a.attrelid = t.relid and a.attnum > 0 and not a.attisdropped
    join pg_type y on y.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  ),
  shapes as (
    select root, relid, jsonb_agg(jsonb_build_array(attname, type, expression) order by attnum) as shape, jsonb_agg(xmin order by attnum) as xmins
    from columns group by root, relid
  ),
  used (root, oid) as (
    select root, atttypid from columns
    union
    select u.root, n.oid
    from used u
    join pg_type y on y.oid = u.oid
    cross join lateral (
      select y.typelem where y.typelem <> 0
      union all select y.typbasetype where y.typbasetype <> 0
      union all select r.rngsubtype from pg_range r where r.rngtypid = y.oid
      union all select r.rngtypid from pg_range r where r.rngmultitypid = y.oid
      union all select a.atttypid from pg_attribute a where a.attrelid = y.typrelid and y.typrelid <> 0 and a.attnum > 0 and not a.attisdropped
    ) n (oid)
  ),
  types as (
    select u.root, jsonb_object_agg(u.oid::regtype::text, jsonb_build_array(u.oid::bigint, case y.typtype
      when 'e' then (select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = u.oid)
      when 'c' then (select jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) order by a.attnum)
        from pg_attribute a where a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped)
      when 'd' then jsonb_build_array(format_type(y.typbasetype, y.typtypmod), y.typnotnull,
        (select jsonb_agg(pg_get_constraintdef(c.oid) order by c.oid) from pg_constraint c where c.contypid = u.oid))
      when 'r' then (select to_jsonb(r.rngsubtype::regtype::text) from pg_range r where r.rngtypid = u.oid)
      end)) as types
    from used u join pg_type y on y.oid = u.oid
    where y.typtype in ('e', 'c', 'd', 'r') or y.typnamespace <> 'pg_catalog'::regnamespace
    group by u.root
  ),
  triggers as (
    select t.root, t.relid, jsonb_object_agg(g.tgname, jsonb_build_array(g.oid::bigint, g.xmin::text, g.tgenabled, p.proname)) as triggers
    from tree t
    join pg_trigger g on g.tgrelid = t.relid
    join pg_proc p on p.oid = g.tgfoid and p.proname in ('capture', 'capture_truncate') and p.pronamespace = 'snapflip'::regnamespace
    group by t.root, t.relid
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'relid', c.oid::bigint,
    'name', format('%I.%I', n.nspname, c.relname),
    'alias', quote_ident(c.relname),
    'type', c.reltype::regtype::text,
    'kind', c.relkind,
    'columns', (select s.shape from shapes s where s.root = c.oid and s.relid = c.oid),
    'types', coalesce((select y.types from types y where y.root = c.oid), '{}'),
    'members', (
      select jsonb_agg(jsonb_build_object(
        'relid', m.oid::bigint,
        'name', m.oid::regclass::text,
        'type', m.reltype::regtype::text,
        'kind', m.relkind,
        'persistence', m.relpersistence,
        'columns', case when s.shape = (select o.shape from shapes o where o.root = c.oid and o.relid = c.oid) then null else s.shape end,
        'xmins', md5(s.xmins::text),
        'triggers', coalesce(g.triggers, '{}')
      ) order by m.oid)
      from tree t
      join pg_class m on m.oid = t.relid
      left join shapes s on s.root = t.root and s.relid = t.relid
      left join triggers g on g.root = t.root and g.relid = t.relid
      where t.root = c.oid
    )
  ) order by c.oid), '[]')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = any (relids)
$$;

-- Order of the values in a `many` index: bytes that sort (as unsigned bytes) like the values do in PostgreSQL. Text sorts by its UTF-8 bytes.
create function snapflip.order_bytes(smallint) returns bytea language sql immutable parallel safe
  return int2send(($1::int # -32768)::smallint);
create function snapflip.order_bytes(integer) returns bytea language sql immutable parallel safe
  return int4send($1 # (-2147483648));
create function snapflip.order_bytes(bigint) returns bytea language sql immutable parallel safe
  return int8send($1 # (-9223372036854775808));
create function snapflip.order_bytes(date) returns bytea language sql immutable parallel safe
  return set_byte(date_send($1), 0, get_byte(date_send($1), 0) # 128);
create function snapflip.order_bytes(timestamp) returns bytea language sql immutable parallel safe
  return set_byte(timestamp_send($1), 0, get_byte(timestamp_send($1), 0) # 128);
create function snapflip.order_bytes(timestamptz) returns bytea language sql immutable parallel safe
  return set_byte(timestamptz_send($1), 0, get_byte(timestamptz_send($1), 0) # 128);
-- IEEE 754: a negative number has all its bits flipped, any other its sign bit. NaN is the greatest, as in PostgreSQL, and one value whatever
-- its sign and payload: its text, which capture keeps, has neither. -0 and 0 are equal.
create function snapflip.order_bytes(double precision) returns bytea language sql immutable parallel safe
  return case when $1 = 'NaN'::double precision then '\xfff8000000000000'::bytea when $1 = 0 then '\x8000000000000000'::bytea
    when get_bit(float8send($1), 7) = 1
    then int8send(~ ('x' || encode(float8send($1), 'hex'))::bit(64)::bigint)
    else set_bit(float8send($1), 7, 1) end;
create function snapflip.order_bytes(real) returns bytea language sql immutable parallel safe
  return case when $1 = 'NaN'::real then '\xffc00000'::bytea when $1 = 0 then '\x80000000'::bytea
    when get_bit(float4send($1), 7) = 1
    then int4send(~ ('x' || encode(float4send($1), 'hex'))::bit(32)::integer)
    else set_bit(float4send($1), 7, 1) end;
create function snapflip.order_bytes(text) returns bytea language sql immutable parallel safe
  return convert_to($1, 'UTF8');
create function snapflip.order_bytes(uuid) returns bytea language sql immutable parallel safe
  return uuid_send($1);
create function snapflip.order_bytes(boolean) returns bytea language sql immutable parallel safe
  return boolsend($1);
create function snapflip.order_bytes(bytea) returns bytea language sql immutable parallel safe
  return $1;
-- Position of the point before the first digit that counts, as an int4 that sorts, then the digits without zeros at the end: longer is greater.
create function snapflip.magnitude_bytes(numeric) returns bytea language sql immutable parallel safe
  return (
    select int4send((case when split_part(t, '.', 1) <> '0' then length(split_part(t, '.', 1))
        else length(ltrim(split_part(t, '.', 2), '0')) - length(split_part(t, '.', 2)) end) # (-2147483648))
      || convert_to(trim('0' from replace(t, '.', '')), 'UTF8')
    from (values (trim_scale(abs($1))::text)) as v (t)
  );
-- One value whatever its scale: 1.0 and 1.00 are equal. Negative: all bits of the magnitude flipped, and an end above every flipped digit.
create function snapflip.order_bytes(numeric) returns bytea language sql immutable parallel safe
  return case
    when $1 = '-Infinity' then '\x00'::bytea
    when $1 = 'Infinity' then '\x04'::bytea
    when $1 = 'NaN' then '\x05'::bytea
    when $1 = 0 then '\x02'::bytea
    when $1 > 0 then '\x03'::bytea || snapflip.magnitude_bytes($1)
    else '\x01'::bytea || decode(translate(encode(snapflip.magnitude_bytes($1), 'hex'), '0123456789abcdef', 'fedcba9876543210'), 'hex') || '\xff'::bytea
  end;
