-- replay_delivery: a person makes a dead letter due again.
-- KEYS: events
-- ARGV: now, delivery
-- Returns: {1, "due"} · {0, state} the move is illegal · {-1} unknown delivery or endpoint
-- Events: none (its next attempt tells)
local id = ARGV[2]
local delivery = some(K.delivery(id), 'state', 'endpoint', 'attempt')
if delivery.state == '' or redis.call('HEXISTS', K.endpoints, delivery.endpoint) == 0 then
  return { -1 }
end
if not allowed('delivery', 'replay', delivery.state) then return { 0, delivery.state } end
redis.call('HSET', K.delivery(id), 'state', 'due', 'due_at', now, 'finished_at', '', 'question', '',
  'replayed_from', delivery.attempt)
redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
redis.call('ZREM', K.deliveries_dead, id)
redis.call('ZADD', K.endpoint_due(delivery.endpoint), now, id)
redis.call('ZADD', K.deliveries_due, 'LT', now, delivery.endpoint)
return { 1, 'due' }
