-- replay_hook: a person lets a hook go through its rules once more.
-- KEYS: events
-- ARGV: now, hook
-- Returns: {1} queued · {0, state} not in this state · {-1} unknown hook · {-2} its payload was
--   too large to be kept · {-3} too much waits already
-- Events: none
local hook = ARGV[2]
local record = some(K.hook(hook), 'state', 'source', 'size')
if record.state == '' then return { -1 } end
if not allowed('hook', 'replay', record.state) then return { 0, record.state } end
if redis.call('HEXISTS', K.hook(hook), 'payload') == 0 then return { -2 } end
local size = tonumber(record.size)
if not room_for_hook(size) then return { -3 } end
redis.call('HSET', K.hook(hook), 'state', 'stored', 'tries', 0)
redis.call('HDEL', K.hook(hook), 'outcome', 'settled_at')
redis.call('ZREM', K.hooks_dead, hook)
queue_hook(hook, record.source, size)
return { 1 }
