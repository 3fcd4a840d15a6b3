import type pg from 'pg'

/** The table every measured thing reads: 8 columns, about 220 bytes of JSON a row. */
export const TABLE = 'public.products'

export const COLUMNS = ['id', 'sku', 'name', 'tags', 'stock', 'category', 'updated_at', 'price_cents'] as const

/** Makes the table with the same rows every time: what looks random is a hash of the id. */
export async function makeRows(pool: pg.Pool, rows: number): Promise<void> {
  await pool.query(`create table ${TABLE} (
    id bigint primary key, sku text not null, name text not null, tags text[] not null, stock integer not null,
    category text not null, updated_at timestamptz not null, price_cents integer not null)`)
  await pool.query(
    `insert into ${TABLE}
     select n, 'SKU-' || lpad(n::text, 9, '0'), translate(md5(n::text), '0123456789', 'aeioulmnrs') || ' of the maker of category-' || n % 50,
       array['tag' || n % 7, 'tag' || n % 11], n % 100, 'category-' || n % 50,
       timestamptz '2026-05-18 00:00:00+00' + n % 86400 * interval '1 second', hashint8(n) & 1048575
     from generate_series(1, $1::bigint) as n`,
    [rows],
  )
  await pool.query(`vacuum analyze ${TABLE}`)
}

/** Changes every `every`-th row, another set of rows for each `turn`, by ordinary SQL; returns how many. */
export async function changeRows(pool: pg.Pool, every: number, turn: number): Promise<number> {
  const { rowCount } = await pool.query(
    `update ${TABLE} set price_cents = price_cents + 1, stock = stock + 1 where id % $1 = $2`,
    [every, (turn * 7919) % every],
  )
  return rowCount ?? 0
}
