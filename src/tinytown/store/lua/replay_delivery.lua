-- replay_delivery: a person makes a dead letter due again, has sent again what was delivered, or will
--   not wait for the next attempt of what is due.
-- KEYS: events
-- ARGV: now, delivery
-- Returns: {1, "due"} · {0, state} the move is illegal · {-1} unknown delivery or endpoint
-- Events: none (its next attempt tells)
local id = ARGV[2]
local delivery = some(K.delivery(id), 'state', 'endpoint', 'attempt', 'event')
local endpoint = endpoint_of(delivery.endpoint)
if delivery.state == '' or endpoint.kind == '' then return { -1 } end
if not allowed('delivery', 'replay', delivery.state) then return { 0, delivery.state } end
if delivery.state ~= 'due' then
  revive_delivery(id, delivery, endpoint)
  return { 1, 'due' }
end
if redis.call('ZSCORE', K.endpoint_flight(delivery.endpoint), id) then return { 1, 'due' } end
redis.call('HSET', K.delivery(id), 'due_at', now)
redis.call('ZADD', K.endpoint_due(delivery.endpoint), place_of(endpoint, delivery.event, now), id)
-- Who asks for it now knows better than the clock: a pause ends, an open circuit gets its probe.
local changes = { hold_until = 0 }
if number(endpoint.open_until) > now then changes.open_until = now end
set_endpoint(delivery.endpoint, endpoint, changes)
queue_endpoint(delivery.endpoint, endpoint)
return { 1, 'due' }
