-- move_endpoint: a person pauses (disable) or resumes (revive) an endpoint.
-- KEYS: events
-- ARGV: now, endpoint, move (disable|revive), reason
-- Returns: {1, state} · {0, state} the move is illegal · {-1} unknown endpoint
-- Events: endpoint.disabled, endpoint.recovered
local id, move = ARGV[2], ARGV[3]
local endpoint = endpoint_of(id)
if endpoint.kind == '' then return { -1 } end
if not allowed('endpoint', move, endpoint.state) then return { 0, endpoint.state } end
if move == 'disable' then
  disable_endpoint(id, endpoint, ARGV[4])
else
  set_endpoint(id, endpoint, { state = 'active', disabled_reason = '', failures = 0 })
  redis.call('HINCRBY', K.endpoints, 'version', 1)
  emit('endpoint.recovered', '', '', cjson.encode({ endpoint = id, reason = ARGV[4] }))
end
queue_endpoint(id, endpoint)
return { 1, endpoint.state }
