-- What the signal is made of, and the promises that keep it honest: workers that were started for
-- a pool and have not come yet. It stands below _clock.lua.

-- A promise is a member `<pool>:<launcher>:<start>` of K.starts; its score is when it lapses.
local function promise_of(pool, launcher, start) return pool .. ':' .. launcher .. ':' .. start end

local function parts_of(promise) return string.match(promise, '^([^:]+):([^:]+):(.+)$') end

-- How many workers are on their way to each pool. Lapsed promises count no more.
local function promised()
  local counts = {}
  for _, promise in ipairs(redis.call('ZRANGEBYSCORE', K.starts, '(' .. now, '+inf')) do
    local pool = parts_of(promise)
    counts[pool] = (counts[pool] or 0) + 1
  end
  return counts
end

-- A worker came: it redeems the oldest promise of its pools, a lapsed one too (better late).
-- Returns the pool it was started for and how long it took, or nothing.
local function redeem_promise(pools)
  local promises = redis.call('ZRANGE', K.starts, 0, -1, 'WITHSCORES')
  for _, wanted in ipairs(pools) do
    for i = 1, #promises, 2 do
      local pool, launcher = parts_of(promises[i])
      if pool == wanted then
        redis.call('ZREM', K.starts, promises[i])
        count('worker_starts:' .. launcher .. ':arrived')
        return pool, math.max(0, now - tonumber(promises[i + 1]) + LIMIT.start_ms)
      end
    end
  end
end

local function hold_starts(pool, ms)
  local until_ms = tonumber(redis.call('HGET', K.launches, pool .. ':until') or 0)
  redis.call('HSET', K.launches, pool .. ':until', math.max(until_ms, now + ms))
end

-- A start came to nothing. Each failure in a row holds the pool back longer; the one that opens the
-- circuit is told. Only a worker that gets to claim makes an end of the row, or a long quiet.
local function start_failed(pool, launcher, reason)
  local row = some(K.launches, pool .. ':failures', pool .. ':failed_at')
  local failures = (tonumber(row[pool .. ':failures']) or 0) + 1
  if now - (tonumber(row[pool .. ':failed_at']) or 0) > LIMIT.forgiven_ms then failures = 1 end
  local pauses = LIMIT.start_pauses_ms
  local pause = pauses[math.min(failures, #pauses)]
  redis.call('HSET', K.launches, pool .. ':failures', failures, pool .. ':failed_at', now)
  hold_starts(pool, pause)
  if failures == #pauses then
    emit('worker.lost', '', '', cjson.encode({ worker = cjson.null, pool = pool,
      launcher = launcher, failed_starts = failures, next_try_seconds = pause / 1000,
      reason = failures .. ' starts in a row failed: ' .. reason }))
  end
  return failures
end

local function starts_forgiven(pool)
  redis.call('HDEL', K.launches, pool .. ':failures', pool .. ':failed_at', pool .. ':until')
end

-- The demand of every pool: {pool, waiting, oldest, active, leaving, blocked, deferred, next_later,
-- starting, idle, busy, draining, lost, …}; leaving = active on draining workers.
local function demand_rows()
  local gauges = fields(K.gauges)
  local function level(name) return tonumber(gauges[name] or 0) end

  -- Leases that ran out and were not taken back yet are waiting, not active.
  local expired, since, lost = {}, {}, {}
  local timers = redis.call('ZRANGEBYSCORE', K.timers, '-inf', '(' .. now, 'WITHSCORES',
    'LIMIT', 0, 1000)
  for i = 1, #timers, 2 do
    local id = string.match(timers[i], '^lease:(.+)$')
    if id then
      local task = redis.call('HMGET', K.task(id), 'pool', 'state')
      local name = task[1] .. ':' .. task[2]
      expired[name] = (expired[name] or 0) + 1
      lost[id] = true
      since[task[1]] = since[task[1]] or tonumber(timers[i + 1])
    end
  end

  local leaving = {}
  for _, worker in ipairs(redis.call('SMEMBERS', K.draining)) do
    local task = redis.call('HGET', K.worker(worker), 'task') or ''
    if task ~= '' and not lost[task] then
      local held = redis.call('HMGET', K.task(task), 'pool', 'state')
      if held[2] == 'running' then leaving[held[1]] = (leaving[held[1]] or 0) + 1 end
    end
  end

  local rows, coming = {}, promised()
  for _, pool in ipairs(redis.call('SMEMBERS', K.pools)) do
    local waiting = redis.call('ZRANGE', K.waiting(pool), 0, 0, 'WITHSCORES')
    local oldest = tonumber(waiting[2] or since[pool] or 0)
    if since[pool] then oldest = math.min(oldest, since[pool]) end
    local later = redis.call('ZRANGE', K.later(pool), 0, 0, 'WITHSCORES')
    local lost_running = expired[pool .. ':running'] or 0
    local lost_blocked = expired[pool .. ':blocked'] or 0
    local function workers(state) return level('workers:' .. pool .. ':' .. state) end
    for _, value in ipairs({ pool,
      redis.call('ZCARD', K.waiting(pool)) + lost_running + lost_blocked,
      oldest,
      level('tasks:' .. pool .. ':running') - lost_running,
      leaving[pool] or 0,
      level('tasks:' .. pool .. ':blocked') - lost_blocked,
      level('deferred:' .. pool),
      tonumber(later[2] or 0),
      workers('starting') + (coming[pool] or 0), workers('idle'), workers('busy'),
      workers('draining'), workers('lost') }) do
      rows[#rows + 1] = value
    end
  end
  return rows
end

-- Two readings with the same stamp say the same demand.
local function stamp_of(rows) return redis.sha1hex(table.concat(rows, ' ')) end
