-- Publishing to several stores. What a dataset's first store holds is told by snapflip.index_versions; here is what the further ones hold.

create table snapflip.further_stores (
  dataset text not null references snapflip.datasets (name),
  -- Without credentials.
  store text not null,
  -- As the definition calls it.
  name text not null,
  -- new: nothing was published there yet. current: its pointer was set to what the first store's said. degraded: it could not be. removed: the
  -- definition does not name it any more; what lies there stays.
  state text not null check (state in ('new', 'current', 'degraded', 'removed')),
  since timestamptz not null default clock_timestamp(),
  -- What its pointer was last set to.
  flip_id text,
  tag text,
  why text,
  primary key (dataset, store)
);

-- Versions that lie in a further store, each verified there. Its content is the version's; its pages say where it lies in that store, so its
-- manifest has other bytes.
create table snapflip.copies (
  dataset text not null,
  store text not null,
  tag text not null,
  manifest_sha256 text not null check (manifest_sha256 ~ '^[0-9a-f]{64}$'),
  generation text not null check (generation ~ '^[0-9a-f]{32}$'),
  copied_at timestamptz not null default clock_timestamp(),
  primary key (dataset, store, tag),
  foreign key (dataset, tag) references snapflip.index_versions (dataset, tag)
);

-- A version that was copied back into the first store, or whose further store took the first's place, has another manifest there: then this is the one
-- that it was sealed and approved with. Null: it has that still.
alter table snapflip.index_versions add column sealed_manifest_sha256 text check (sealed_manifest_sha256 ~ '^[0-9a-f]{64}$');
