-- read_demand: what every pool's leases and counters say, in one step; cost grows with pools only.
-- flags: no-writes
-- KEYS: events
-- ARGV: now
-- Returns: {now, seq, {pool, waiting, oldest, active, leaving, blocked, deferred, next_later,
--   starting, idle, busy, draining, lost, …}}; leaving = active on draining workers
-- Events: none
local gauges = fields(K.gauges)
local function level(name) return tonumber(gauges[name] or 0) end

-- Leases that ran out and were not taken back yet are waiting, not active.
local expired = {}
local timers = redis.call('ZRANGEBYSCORE', K.timers, '-inf', '(' .. now, 'LIMIT', 0, 1000)
for _, member in ipairs(timers) do
  local id = string.match(member, '^lease:(.+)$')
  if id then
    local task = redis.call('HMGET', K.task(id), 'pool', 'state')
    local name = task[1] .. ':' .. task[2]
    expired[name] = (expired[name] or 0) + 1
  end
end

local leaving = {}
for _, worker in ipairs(redis.call('SMEMBERS', K.draining)) do
  local task = redis.call('HGET', K.worker(worker), 'task') or ''
  if task ~= '' then
    local held = redis.call('HMGET', K.task(task), 'pool', 'state')
    if held[2] == 'running' then leaving[held[1]] = (leaving[held[1]] or 0) + 1 end
  end
end

local rows = {}
for _, pool in ipairs(redis.call('SMEMBERS', K.pools)) do
  local waiting = redis.call('ZRANGE', K.waiting(pool), 0, 0, 'WITHSCORES')
  local later = redis.call('ZRANGE', K.later(pool), 0, 0, 'WITHSCORES')
  local lost_running, lost_blocked = expired[pool .. ':running'] or 0, expired[pool .. ':blocked'] or 0
  local function workers(state) return level('workers:' .. pool .. ':' .. state) end
  for _, value in ipairs({ pool,
    redis.call('ZCARD', K.waiting(pool)) + lost_running + lost_blocked,
    tonumber(waiting[2] or 0),
    level('tasks:' .. pool .. ':running') - lost_running,
    leaving[pool] or 0,
    level('tasks:' .. pool .. ':blocked') - lost_blocked,
    level('deferred:' .. pool),
    tonumber(later[2] or 0),
    workers('starting'), workers('idle'), workers('busy'), workers('draining'), workers('lost') }) do
    rows[#rows + 1] = value
  end
end
return { now, level('seq'), rows }
