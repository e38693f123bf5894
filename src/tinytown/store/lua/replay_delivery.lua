-- replay_delivery: a person makes a dead letter due again, or has sent again what was delivered.
-- KEYS: events
-- ARGV: now, delivery
-- Returns: {1, "due"} · {0, state} the move is illegal · {-1} unknown delivery or endpoint
-- Events: none (its next attempt tells)
local id = ARGV[2]
local delivery = some(K.delivery(id), 'state', 'endpoint', 'attempt', 'event')
local endpoint = endpoint_of(delivery.endpoint)
if delivery.state == '' or endpoint.kind == '' then return { -1 } end
if not allowed('delivery', 'replay', delivery.state) then return { 0, delivery.state } end
revive_delivery(id, delivery, endpoint)
return { 1, 'due' }
