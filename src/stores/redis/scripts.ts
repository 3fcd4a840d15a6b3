/**
 * The scripts, each on keys of one slot. Redis 7 flags: `allow-oom` lets a full Redis still flip, roll back and take leases;
 * without it a script is refused as a whole when memory is short.
 */

/** Who answers: after failover and failback run_id alone is the same again, and so is master_replid alone after a plain restart. */
const IDENTITY = `
local info = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
local run, repl = string.match(info, 'run_id:(%x+)'), string.match(info, 'master_replid:(%x+)')
`

/**
 * KEYS: pointer. ARGV: expected revision ('' for none), next revision, pointer, channel. The first write binds the pointer to the
 * server. (Redis also draws a new master_replid an hour after its last replica left: a needless rebind, but a safe one.)
 */
export const SWAP_POINTER = `#!lua flags=allow-oom
${IDENTITY}
local held = redis.call('HMGET', KEYS[1], 'r', 'i', 'm')
if held[1] and (held[2] ~= run or held[3] ~= repl) then return {'rebound', held[2], held[3], run, repl} end
if (held[1] or '') ~= ARGV[1] then return {'moved'} end
redis.call('HSET', KEYS[1], 'r', ARGV[2], 'v', ARGV[3], 'i', run, 'm', repl)
redis.call('PUBLISH', ARGV[4], ARGV[2])
return {'set'}
`

/**
 * KEYS: pointer. ARGV: expected revision, next revision, pointer, channel. Only where SWAP_POINTER says rebound: of two reconcilers the
 * second finds it done; and one that was paused over another's and a further restart finds another revision.
 */
export const REBIND_POINTER = `#!lua flags=allow-oom
${IDENTITY}
local held = redis.call('HMGET', KEYS[1], 'r', 'i', 'm')
if held[1] ~= ARGV[1] then return {'moved'} end
if held[2] == run and held[3] == repl then return {'bound'} end
redis.call('HSET', KEYS[1], 'r', ARGV[2], 'v', ARGV[3], 'i', run, 'm', repl)
redis.call('PUBLISH', ARGV[4], ARGV[2])
return {'set'}
`

/** KEYS: pointer. 1 where SWAP_POINTER may write. */
export const IS_BOUND = `#!lua flags=no-writes,allow-oom
${IDENTITY}
local held = redis.call('HMGET', KEYS[1], 'r', 'i', 'm')
if held[1] and (held[2] ~= run or held[3] ~= repl) then return 0 end
return 1
`

const NOW_MS = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

/**
 * A generation's entry in the journal: "upto begunAtMs", the numbers handed out and since when; then " finished" while its writer has
 * nothing more to write, or " swept sweptAtMs" once it gets no numbers any more (0: its objects are not all deleted yet).
 */
const JOURNAL_ENTRY = `
local entry = redis.call('HGET', KEYS[1], ARGV[1])
local upto, at, state, sweptAt = string.match(entry or '', '^(%d+) (%d+) ?(%a*) ?(%d*)$')
`

/** KEYS: journal. ARGV: generation. Begun twice, it goes on where it was. */
export const BEGIN_GENERATION = `#!lua
${NOW_MS}
return redis.call('HSETNX', KEYS[1], ARGV[1], string.format('0 %.0f', now))
`

/** KEYS: journal. ARGV: generation, count. Returns the first number of the reserved range, or -1 when the generation was swept. */
export const RESERVE_NUMBERS = `#!lua
${JOURNAL_ENTRY}
if not entry or state == 'swept' then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', upto + ARGV[2], at))
return tonumber(upto)
`

/** KEYS: journal. ARGV: generation. 0 when it was swept. */
export const FINISH_GENERATION = `#!lua flags=allow-oom
${JOURNAL_ENTRY}
if not entry or state == 'swept' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s finished', upto, at))
return 1
`

/** KEYS: journal. ARGV: generation. Before its objects are deleted. Returns how many numbers were handed out. */
export const BEGIN_SWEEP = `#!lua flags=allow-oom
${JOURNAL_ENTRY}
if not entry then return 0 end
if state == '' then redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s swept 0', upto, at)) end
return tonumber(upto)
`

/** KEYS: journal. ARGV: generation. When its objects are deleted: a writer that is not finished may still put some that it has numbers for. */
export const END_SWEEP = `#!lua flags=allow-oom
${JOURNAL_ENTRY}
if state == 'finished' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
if state ~= 'swept' or sweptAt ~= '0' then return 0 end
${NOW_MS}
return redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s swept %.0f', upto, at, now))
`

/** KEYS: leases. ARGV: id, tag, kind, ttl in ms. */
export const PUT_LEASE = `#!lua flags=allow-oom
${NOW_MS}
return redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s %s', now + ARGV[4], ARGV[2], ARGV[3]))
`

/** Stands for the tag of a lease that cannot be read. */
export const UNREADABLE = '?'

/**
 * KEYS: leases. ARGV: longest ttl in ms, what the ids begin with. Returns id, entry, id, entry, …; expired ones are removed in the same step, so that no renewal is
 * lost to it. Fields have no age: what cannot be read gets its end when it is first seen.
 */
export const LIST_LEASES = `#!lua flags=allow-oom
${NOW_MS}
local all, alive = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local entry = all[i + 1]
  local ends = tonumber(string.match(entry, '^(%d+) %S+ %a+$'))
  if not ends then
    ends = now + ARGV[1]
    entry = string.format('%.0f ${UNREADABLE} reader', ends)
    redis.call('HSET', KEYS[1], all[i], entry)
  end
  if ends <= now then
    redis.call('HDEL', KEYS[1], all[i])
  elseif string.sub(all[i], 1, #ARGV[2]) == ARGV[2] then
    alive[#alive + 1] = all[i]
    alive[#alive + 1] = entry
  end
end
return alive
`

/** KEYS: any. A write, so that WAIT on this connection has one to wait for. */
export const SETTLE = `#!lua flags=allow-oom
return redis.call('SET', KEYS[1], '1')
`
