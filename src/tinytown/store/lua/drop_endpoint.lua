-- drop_endpoint: an endpoint goes, with what was due for it.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, endpoint, digest (of the record to remove, or '' for any)
-- Returns: {1} · {-1} unknown endpoint · {0, digest} it was changed meanwhile
-- Events: none (its deliveries expire)
local id, digest = ARGV[2], ARGV[3]
local present = redis.call('HGET', K.endpoints, id)
if not present then return { -1 } end
if digest ~= '' and redis.sha1hex(present) ~= digest then return { 0, redis.sha1hex(present) } end
redis.call('HDEL', K.endpoints, id)
redis.call('HINCRBY', K.endpoints, 'version', 1)
forget_endpoint(id)
return { 1 }
