-- read_demand: what every pool's leases and counters say, in one step; cost grows with pools only.
-- flags: no-writes
-- KEYS: events
-- ARGV: now
-- Returns: {now, seq, {pool, waiting, oldest, active, expired, blocked, deferred, starting, idle,
--   busy, draining, lost, …}, next_later}
-- Events: none
local gauges = fields(K.gauges)
local function level(name) return tonumber(gauges[name] or 0) end

-- Leases that ran out and were not taken back yet are waiting, not active.
local expired, next_later = {}, 0
local timers = redis.call('ZRANGEBYSCORE', K.timers, '-inf', '(' .. now, 'LIMIT', 0, 1000)
for _, member in ipairs(timers) do
  local id = string.match(member, '^lease:(.+)$')
  if id then
    local task = redis.call('HMGET', K.task(id), 'pool', 'state')
    local name = task[1] .. ':' .. task[2]
    expired[name] = (expired[name] or 0) + 1
  end
end
local due = redis.call('ZRANGEBYSCORE', K.timers, now, '+inf', 'WITHSCORES', 'LIMIT', 0, 100)
for i = 1, #due, 2 do
  if string.match(due[i], '^later:') then next_later = tonumber(due[i + 1]) break end
end

local rows = {}
for _, pool in ipairs(redis.call('SMEMBERS', K.pools)) do
  local waiting = redis.call('ZRANGE', K.waiting(pool), 0, 0, 'WITHSCORES')
  local lost_running, lost_blocked = expired[pool .. ':running'] or 0, expired[pool .. ':blocked'] or 0
  local function workers(state) return level('workers:' .. pool .. ':' .. state) end
  for _, value in ipairs({ pool,
    redis.call('ZCARD', K.waiting(pool)) + lost_running + lost_blocked,
    tonumber(waiting[2] or 0),
    level('tasks:' .. pool .. ':running') - lost_running,
    level('tasks:' .. pool .. ':blocked') - lost_blocked,
    level('deferred:' .. pool),
    workers('starting'), workers('idle'), workers('busy'), workers('draining'), workers('lost') }) do
    rows[#rows + 1] = value
  end
end
return { now, level('seq'), rows, next_later }
