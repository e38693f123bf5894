-- What the scripts of sources and hooks share: the version of the sources, the queue and its bounds,
-- the audit.
-- It stands on _ground.lua.

-- Caches compare it. It is a time, so that a town which lost all it had begins with another.
local function next_version()
  local last = tonumber(redis.call('HGET', K.sources, 'version') or '0')
  local version = string.format('%.0f', math.max(now, last + 1))
  redis.call('HSET', K.sources, 'version', version)
  return version
end

local function room_for_hook(size)
  local waiting = redis.call('XLEN', K.hooks)
  -- Whatever was lost or removed by hand: an empty queue weighs nothing.
  if waiting == 0 then redis.call('DEL', K.hooks_bytes) end
  local bytes = tonumber(redis.call('GET', K.hooks_bytes) or '0')
  return waiting < LIMIT.hooks and bytes + size <= LIMIT.hooks_bytes
end

local function queue_hook(hook, source, size)
  -- It waits as long as it takes; only a town that nobody runs for a year forgets it.
  redis.call('PEXPIRE', K.hook(hook), LIMIT.grace_ms)
  redis.call('INCRBY', K.hooks_bytes, size)
  redis.call('XADD', K.hooks, '*', 'hook', hook)
  redis.call('ZADD', K.source_hooks(source), now, hook)
  redis.call('PEXPIRE', K.source_hooks(source), LIMIT.grace_ms)
end

local function forget_entry(entry)
  redis.pcall('XACK', K.hooks, 'routers', entry)
  redis.call('XDEL', K.hooks, entry)
end

-- The oldest settled hooks of a source go; those that wait stay, however many they are.
local function trim_hooks(source)
  local list = K.source_hooks(source)
  local over = redis.call('ZCARD', list) - LIMIT.source_hooks
  if over <= 0 then return end
  for _, hook in ipairs(redis.call('ZRANGE', list, 0, math.min(over, 50) - 1)) do
    local state = redis.call('HGET', K.hook(hook), 'state')
    if state ~= 'stored' then
      redis.call('ZREM', list, hook)
      if state ~= 'dead' then redis.call('UNLINK', K.hook(hook)) end
    end
  end
end

local function audit(actor, verb, object, result, reason, request)
  redis.call('XADD', K.audit, 'MAXLEN', '~', LIMIT.audit, '*', 'at', at, 'actor', actor,
    'verb', verb, 'object', object, 'result', result, 'reason', reason, 'request', request)
end
