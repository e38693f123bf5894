-- plan_deliveries: one event is acknowledged and one delivery filed per endpoint that wants it.
-- KEYS: events
-- ARGV: now, stream_id, version, event (JSON), type, question ('' unless question.asked),
--   event_at, endpoints…
-- Returns: {1, filed} · {0, version} the endpoints changed meanwhile: match again
-- Events: none (a delivery's story is told when it dies)
local stream_id, version, event, kind, question, event_at =
  ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local present = redis.call('HGET', K.endpoints, 'version') or '0'
if present ~= version then return { 0, present } end
local filed = 0
for i = 8, #ARGV do
  local endpoint = ARGV[i]
  -- The suffix of the endpoint's id makes the delivery's id: a redelivered event files nothing twice.
  local id = 'dlv_' .. stream_id .. '_' .. string.sub(endpoint, 5)
  if redis.call('HEXISTS', K.endpoints, endpoint) == 1
    and redis.call('HGET', K.endpoint_health(endpoint), 'state') ~= 'disabled'
    and redis.call('EXISTS', K.delivery(id)) == 0 then
    redis.call('HSET', K.delivery(id), 'endpoint', endpoint, 'event', event, 'type', kind,
      'question', question, 'state', 'due', 'attempt', 0, 'created_at', now, 'due_at', now,
      'event_at', event_at)
    redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
    redis.call('ZADD', K.endpoint_due(endpoint), now, id)
    redis.call('ZADD', K.deliveries_due, 'LT', now, endpoint)
    local log = K.endpoint_deliveries(endpoint)
    redis.call('ZADD', log, now, id)
    redis.call('ZREMRANGEBYRANK', log, 0, -LIMIT.endpoint_log - 1)
    redis.call('EXPIRE', log, LIMIT.delivery_ttl)
    filed = filed + 1
  end
end
redis.call('XACK', K.events, 'notifiers', stream_id)
return { 1, filed }
