-- move_endpoint: a person pauses (disable) or resumes (revive) an endpoint.
-- KEYS: events
-- ARGV: now, endpoint, move (disable|revive), reason
-- Returns: {1, state} · {0, state} the move is illegal · {-1} unknown endpoint
-- Events: endpoint.disabled, endpoint.recovered
local id, move = ARGV[2], ARGV[3]
if redis.call('HEXISTS', K.endpoints, id) == 0 then return { -1 } end
local state = redis.call('HGET', K.endpoint_health(id), 'state') or 'active'
if not allowed('endpoint', move, state) then return { 0, state } end
local to = move == 'disable' and 'disabled' or 'active'
redis.call('HSET', K.endpoint_health(id), 'state', to, 'failures', 0)
redis.call('HINCRBY', K.endpoints, 'version', 1)
local first = redis.call('ZRANGE', K.endpoint_due(id), 0, 0, 'WITHSCORES')
if move == 'revive' and first[1] then redis.call('ZADD', K.deliveries_due, first[2], id) end
emit(move == 'disable' and 'endpoint.disabled' or 'endpoint.recovered', '', '',
  cjson.encode({ endpoint = id, reason = ARGV[4] }))
return { 1, to }
