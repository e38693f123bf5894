-- The ground of every script: the clock, records, counters, histograms, events, signals.
-- scripts.py puts the key builders (K), the tables of moves (MOVES) and the bounds (LIMIT) above
-- this text, and one script's body below it. KEYS[1] is always the town's event stream, ARGV[1]
-- always the time in milliseconds; 0 means the server's own clock (only tests pass another).

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function fields(key)
  local flat = redis.call('HGETALL', key)
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

local function some(key, ...)
  local record = redis.call('HMGET', key, ...)
  for i = 1, #record do record[select(i, ...)], record[i] = record[i] or '', nil end
  return record
end

local function allowed(noun, move, state) return MOVES[noun][move][state] == true end

-- What is counted is written once, when the script is done (store/assembly.py): a task that passes
-- through a state in one breath costs nothing, and a name counted twice one command.
local counted, gauged = {}, {}

local function count(name, by) counted[name] = (counted[name] or 0) + (by or 1) end

local function gauge(name, by) gauged[name] = (gauged[name] or 0) + by end

local function write_books()
  for name, by in pairs(counted) do
    if by ~= 0 then redis.call('HINCRBY', K.counters, name, by) end
  end
  for name, by in pairs(gauged) do
    if by ~= 0 then redis.call('HINCRBY', K.gauges, name, by) end
  end
end

-- A histogram in milliseconds: one counter per bucket and one for the sum.
local function observe(name, ms)
  ms = math.max(0, math.floor(ms))
  local bucket = 'inf'
  for _, bound in ipairs(LIMIT.buckets_ms) do
    if ms <= bound then bucket = bound break end
  end
  count('histogram:' .. name .. ':' .. bucket)
  count('histogram:' .. name .. ':sum_ms', ms)
end

-- Every change of state is told here, in the same breath. Returns the event's stream id.
local at = string.format('%.0f', now)

local function emit(kind, mission, task, data)
  local id = redis.call('XADD', K.events, 'MAXLEN', '~', LIMIT.events, '*', 'type', kind,
    'at', at, 'mission', mission, 'task', task, 'data', data)
  if mission ~= '' then
    redis.call('XADD', K.mission_events(mission), 'MAXLEN', '~', LIMIT.mission_events, id,
      'type', kind, 'at', at, 'task', task, 'data', data)
  end
  count('events:' .. kind)
  return id
end

local function signal(worker, ...)
  if worker == '' then return end
  local inbox = K.worker_inbox(worker)
  redis.call('XADD', inbox, 'MAXLEN', '~', LIMIT.inbox, '*', ...)
  redis.call('EXPIRE', inbox, LIMIT.inbox_ttl)
end
