-- reserve_starts: the one launcher of this moment promises workers, if the demand is still the one
-- it reckoned from. A repeated call gets what the first one got.
-- KEYS: events
-- ARGV: now, token, lease_ms, stamp, launcher, starts… (pool and id of each)
-- Returns: {1, held_ms (0 = no pool is held back), {start, …}, {pool of a lapsed promise, …}} ·
--   {0, "changed"} the demand is another · {-2, left_ms} another launcher is at work
-- Events: worker.lost (a circuit opened)
local token, launcher = ARGV[2], ARGV[5]
local holder = redis.call('GET', K.launcher_lease)
if holder and holder ~= token then return { -2, redis.call('PTTL', K.launcher_lease) } end
redis.call('SET', K.launcher_lease, token, 'PX', ARGV[3])

local again = {}
for i = 6, #ARGV, 2 do
  if redis.call('ZSCORE', K.starts, promise_of(ARGV[i], launcher, ARGV[i + 1])) then
    again[#again + 1] = ARGV[i + 1]
  end
end
if #again > 0 then return { 1, 0, again, {} } end
if stamp_of(demand_rows()) ~= ARGV[4] then return { 0, 'changed' } end

-- Whoever was promised and did not come: a failed start as any other.
local overdue = {}
local lapsed = redis.call('ZRANGEBYSCORE', K.starts, '-inf', now, 'WITHSCORES')
for i = 1, #lapsed, 2 do
  local pool, by = parts_of(lapsed[i])
  redis.call('ZREM', K.starts, lapsed[i])
  count('worker_starts:' .. by .. ':overdue')
  count('agent_ms:boot', LIMIT.start_ms)
  if now - tonumber(lapsed[i + 1]) < LIMIT.forgiven_ms then
    start_failed(pool, by, 'no worker came within ' .. LIMIT.start_ms / 1000 .. ' s')
  end
  overdue[#overdue + 1] = pool
end

local coming, granted, held_ms = promised(), {}, 0
for i = 6, #ARGV, 2 do
  local pool, start = ARGV[i], ARGV[i + 1]
  local row = redis.call('HMGET', K.launches, pool .. ':failures', pool .. ':until')
  local wait = (tonumber(row[2] or 0)) - now
  local failing = tonumber(row[1] or 0) > 0
  local here = tonumber(redis.call('HGET', K.gauges, 'workers:' .. pool .. ':starting') or 0)
  if wait > 0 then
    held_ms = held_ms == 0 and wait or math.min(held_ms, wait)
  elseif not failing or (coming[pool] or 0) + here == 0 then
    -- After a failure one at a time, until one gets to work: a probe, not a storm.
    redis.call('ZADD', K.starts, now + LIMIT.start_ms, promise_of(pool, launcher, start))
    coming[pool] = (coming[pool] or 0) + 1
    granted[#granted + 1] = start
  end
end
redis.call('EXPIRE', K.starts, LIMIT.starts_ttl)
return { 1, held_ms, granted, overdue }
