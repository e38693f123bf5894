-- drop_source: a source goes with its hooks, except those that still wait for their rule.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, source, expected (SHA-1 of its record; '' for whatever it is)
-- Returns: {1} · {0, digest} it is another by now · {-1} unknown source
-- Events: none
local id, expected = ARGV[2], ARGV[3]
local known = redis.call('HGET', K.sources, id)
if not known then return { -1 } end
local digest = redis.sha1hex(known)
if expected ~= '' and digest ~= expected then return { 0, digest } end
for _, hook in ipairs(redis.call('ZRANGE', K.source_hooks(id), 0, -1)) do
  if redis.call('HGET', K.hook(hook), 'state') ~= 'stored' then
    redis.call('UNLINK', K.hook(hook))
    redis.call('ZREM', K.hooks_dead, hook)
  end
end
redis.call('UNLINK', K.source_hooks(id), K.source_rejected(id))
redis.call('HDEL', K.sources, id)
next_version()
return { 1 }
