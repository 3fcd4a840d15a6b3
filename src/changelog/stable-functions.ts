/**
 * Stable functions of pg_catalog whose result depends on their arguments and on settings that a build pins, and on nothing else: not the
 * clock, the session, the catalogue or a table. All other stable functions are refused in definitions.
 */
export const STABLE_ALLOWED: ReadonlySet<string> = new Set(
  `anytextcat textanycat array_to_json array_to_string concat concat_ws convert convert_from convert_to date date_add date_part date_subtract
  date_trunc enum_first enum_last enum_range extract format interval_pl_timestamptz timestamptz_pl_interval timestamptz_mi_interval
  json_build_array json_build_object json_populate_record jsonb_build_array jsonb_build_object jsonb_populate_record jsonb_populate_record_valid
  jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz length make_timestamptz money numeric overlaps
  quote_literal quote_nullable row_to_json time timestamp timestamptz timetz timezone to_char to_date to_json to_jsonb to_number to_timestamp
  xml xml_is_well_formed
  date_cmp_timestamptz date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz date_le_timestamptz date_lt_timestamptz date_ne_timestamptz
  timestamp_cmp_timestamptz timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz
  timestamp_lt_timestamptz timestamp_ne_timestamptz timestamptz_cmp_date timestamptz_cmp_timestamp timestamptz_eq_date
  timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp timestamptz_gt_date timestamptz_gt_timestamp timestamptz_le_date
  timestamptz_le_timestamp timestamptz_lt_date timestamptz_lt_timestamp timestamptz_ne_date timestamptz_ne_timestamp`.split(
    /\s+/,
  ),
)
