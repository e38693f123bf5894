-- settle_hooks: what became of hooks is written down, once each, and they leave the queue.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, settled (JSON)
--   settled: array of {entry, hook, move, state, outcome, mission, line}; outcome and line are JSON
--   texts, the line is for the log of that mission, or empty
-- Returns: {1, settled} how many were not settled before
-- Events: none
local function settle(one)
  local key = K.hook(one.hook)
  forget_entry(one.entry)
  local record = some(key, 'state', 'source', 'size')
  if not allowed('hook', one.move, record.state) then return 0 end
  local size = tonumber(record.size)
  redis.call('HSET', key, 'state', one.state, 'settled_at', now, 'outcome', one.outcome)
  if size > LIMIT.hook_bytes then redis.call('HDEL', key, 'payload') end
  redis.call('PEXPIRE', key, LIMIT.hook_ttl_ms)
  if redis.call('DECRBY', K.hooks_bytes, size) < 0 then redis.call('DEL', K.hooks_bytes) end
  if one.state == 'dead' then
    redis.call('ZADD', K.hooks_dead, now, one.hook)
    redis.call('ZREMRANGEBYRANK', K.hooks_dead, 0, -LIMIT.hooks_dead - 1)
  end
  trim_hooks(record.source)
  if one.line ~= '' and redis.call('EXISTS', K.mission(one.mission)) == 1 then
    local log = K.mission_log(one.mission)
    redis.call('XADD', log, 'MAXLEN', '~', LIMIT.log, '*', 'task', '', 'attempt', 0, 'at', now,
      'line', one.line)
    note_key(one.mission, {}, 'has_log')
    -- An ended mission's keys expire together.
    local ttl = redis.call('PTTL', K.mission(one.mission))
    if ttl > 0 then redis.call('PEXPIRE', log, ttl) end
  end
  count('hooks:' .. one.state)
  return 1
end

local settled = 0
for _, one in ipairs(cjson.decode(ARGV[2])) do settled = settled + settle(one) end
return { 1, settled }
