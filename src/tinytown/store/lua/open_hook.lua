-- open_hook: a router begins with a hook; the tries are counted here, so that one which ends its
-- townhall is not tried for ever.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, hook, entry (stream id)
-- Returns: {1, {fields}, source (JSON or '')} · {0} nothing to do any more: the entry is gone
-- Events: none
local hook, entry = ARGV[2], ARGV[3]
local state = redis.call('HGET', K.hook(hook), 'state')
if state ~= 'stored' then
  forget_entry(entry)
  return { 0 }
end
redis.call('HINCRBY', K.hook(hook), 'tries', 1)
local record = redis.call('HGETALL', K.hook(hook))
local source = redis.call('HGET', K.hook(hook), 'source')
return { 1, record, redis.call('HGET', K.sources, source) or '' }
