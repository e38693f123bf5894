-- put_endpoint: an endpoint is added or changed; notifiers see it by the version.
-- KEYS: events
-- ARGV: now, endpoint, record (JSON), must_exist (0|1)
-- Returns: {1, version} · {-1} unknown endpoint
-- Events: none (its health starts active)
local id = ARGV[2]
if ARGV[4] == '1' and redis.call('HEXISTS', K.endpoints, id) == 0 then return { -1 } end
redis.call('HSET', K.endpoints, id, ARGV[3])
redis.call('HSETNX', K.endpoint_health(id), 'state', 'active')
return { 1, redis.call('HINCRBY', K.endpoints, 'version', 1) }
