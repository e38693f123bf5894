-- drop_endpoint: an endpoint goes, with what was due for it.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, endpoint
-- Returns: {1} · {-1} unknown endpoint
-- Events: none (its deliveries expire)
local id = ARGV[2]
if redis.call('HDEL', K.endpoints, id) == 0 then return { -1 } end
redis.call('HINCRBY', K.endpoints, 'version', 1)
redis.call('UNLINK', K.endpoint_health(id), K.endpoint_due(id), K.endpoint_deliveries(id))
redis.call('ZREM', K.deliveries_due, id)
return { 1 }
