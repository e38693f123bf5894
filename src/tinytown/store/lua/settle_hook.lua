-- settle_hook: what became of a hook is written down, once, and it leaves the queue.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, hook, entry (stream id), move, state, outcome (JSON), mission, line (JSON for the log
--   of that mission; '' for none)
-- Returns: {1} · {0, state} it was settled before
-- Events: none
local hook, entry, state, mission, line = ARGV[2], ARGV[3], ARGV[5], ARGV[7], ARGV[8]
forget_entry(entry)
local record = some(K.hook(hook), 'state', 'source', 'size')
if not allowed('hook', ARGV[4], record.state) then return { 0, record.state } end
local size = tonumber(record.size)
redis.call('HSET', K.hook(hook), 'state', state, 'settled_at', now, 'outcome', ARGV[6])
if size > LIMIT.hook_bytes then redis.call('HDEL', K.hook(hook), 'payload') end
redis.call('PEXPIRE', K.hook(hook), LIMIT.hook_ttl_ms)
if redis.call('DECRBY', K.hooks_bytes, size) < 0 then redis.call('DEL', K.hooks_bytes) end
if state == 'dead' then
  redis.call('ZADD', K.hooks_dead, now, hook)
  redis.call('ZREMRANGEBYRANK', K.hooks_dead, 0, -LIMIT.hooks_dead - 1)
end
trim_hooks(record.source)
if line ~= '' and redis.call('EXISTS', K.mission(mission)) == 1 then
  local log = K.mission_log(mission)
  redis.call('XADD', log, 'MAXLEN', '~', LIMIT.log, '*', 'task', '', 'attempt', 0, 'at', now,
    'line', line)
  note_key(mission, {}, 'has_log')
  -- An ended mission's keys expire together.
  local ttl = redis.call('PTTL', K.mission(mission))
  if ttl > 0 then redis.call('PEXPIRE', log, ttl) end
end
count('hooks:' .. state)
return { 1 }
