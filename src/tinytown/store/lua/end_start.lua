-- end_start: a start came to nothing, or its worker is gone: what was promised is promised no more.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, pool, launcher, start, result, failed (1: counts towards the circuit), hold_ms,
--   lived_ms, reason
-- Returns: {1, failures in a row, held_ms}
-- Events: worker.lost (the circuit opened)
local pool, launcher, result = ARGV[2], ARGV[3], ARGV[5]
local open = redis.call('ZREM', K.starts, promise_of(pool, launcher, ARGV[4])) == 1
if open then
  count('worker_starts:' .. launcher .. ':' .. result)
  count('agent_ms:boot', ARGV[8])
end
-- A worker that never came has failed however long it took; one that came only if it was soon.
-- Once, also when the call is repeated because its reply got lost.
local failed = ARGV[6] == '1' or (open and result == 'crashed')
if failed and redis.call('HGET', K.launches, pool .. ':last') ~= ARGV[4] then
  redis.call('HSET', K.launches, pool .. ':last', ARGV[4])
  start_failed(pool, launcher, ARGV[9])
end
if tonumber(ARGV[7]) > 0 then hold_starts(pool, tonumber(ARGV[7])) end
local row = redis.call('HMGET', K.launches, pool .. ':failures', pool .. ':until')
return { 1, tonumber(row[1] or 0), math.max(0, tonumber(row[2] or 0) - now) }
