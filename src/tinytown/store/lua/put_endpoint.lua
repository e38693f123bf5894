-- put_endpoint: an endpoint is added or changed; notifiers see it by the version.
-- KEYS: events
-- ARGV: now, endpoint, record (JSON), must_exist (0|1), digest (of the record to replace, or '' for any),
--   kind, cap, fifo (0|1), interval_ms, burst_ms
-- Returns: {1, version} · {-1} unknown endpoint · {0, digest} it was changed meanwhile ·
--   {-3} too many endpoints
-- Events: none (its health starts active)
local id, digest = ARGV[2], ARGV[5]
local present = redis.call('HGET', K.endpoints, id)
if ARGV[4] == '1' and not present then return { -1 } end
if digest ~= '' and redis.sha1hex(present or '') ~= digest then
  return { 0, redis.sha1hex(present or '') }
end
-- One field of the hash is the version.
if not present and redis.call('HLEN', K.endpoints) > LIMIT.endpoints then return { -3 } end
redis.call('HSET', K.endpoints, id, ARGV[3])
treat_endpoint(id, ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10])
-- With more room or a faster rate something may be due sooner than was thought: a place that a
-- slower rate gave it, far ahead, is changed for the farthest in this one.
local endpoint = endpoint_of(id)
local farthest = now + number(endpoint.burst_ms)
  + math.max(number(endpoint.interval_ms), number(endpoint.pace_ms))
if number(endpoint.tat) > farthest then set_endpoint(id, endpoint, { tat = farthest }) end
queue_endpoint(id, endpoint)
return { 1, redis.call('HINCRBY', K.endpoints, 'version', 1) }
