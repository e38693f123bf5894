-- Deliveries: when something may be done for an endpoint, and how one is filed, leased and buried.
-- It stands on _ground.lua.

-- How an endpoint is doing and wants to be treated; `kind` is empty when there is no such endpoint.
local function endpoint_of(id)
  return some(K.endpoint_health(id), 'kind', 'state', 'cap', 'fifo', 'interval_ms', 'burst_ms',
    'failures', 'failing_since', 'open_until', 'trips', 'hold_until', 'waits', 'tat', 'pace_ms', 'warned')
end

-- Writes what changed of an endpoint; a script that goes on with it sees the same.
local function set_endpoint(id, endpoint, changes)
  local flat = {}
  for name, value in pairs(changes) do
    endpoint[name] = tostring(value)
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', K.endpoint_health(id), unpack(flat))
end

local function number(text) return tonumber(text) or 0 end

-- How many more may be on their way; a circuit that opened lets one probe through at a time.
local function room_of(id, endpoint)
  local cap = number(endpoint.open_until) > 0 and 1 or number(endpoint.cap)
  return cap - redis.call('ZCARD', K.endpoint_flight(id))
end

-- The earliest moment at which an endpoint may be sent something.
local function gate_of(endpoint)
  local burst = number(endpoint.pace_ms) > 0 and 0 or number(endpoint.burst_ms)
  return math.max(number(endpoint.open_until), number(endpoint.hold_until),
    number(endpoint.tat) - burst)
end

-- Puts an endpoint at its place in `deliveries:due`: the earliest moment something may be done for
-- it, which is to send what is due or to take back what a lost notifier had leased. If that is past
-- it queues up behind those that wait already, so that nobody's backlog keeps others waiting;
-- `waits_on` leaves it the place it has where something only became due sooner.
local function queue_endpoint(id, endpoint, waits_on)
  local soonest
  local lease = redis.call('ZRANGE', K.endpoint_flight(id), 0, 0, 'WITHSCORES')
  if lease[1] then soonest = tonumber(lease[2]) end
  if endpoint.state ~= 'disabled' then
    local first = redis.call('ZRANGE', K.endpoint_due(id), 0, 0, 'WITHSCORES')
    if first[1] and room_of(id, endpoint) > 0 then
      local at = gate_of(endpoint)
      if endpoint.fifo ~= '1' then at = math.max(at, tonumber(first[2])) end
      soonest = math.min(soonest or at, at)
    end
  end
  if not soonest then redis.call('ZREM', K.deliveries_due, id)
  elseif waits_on then redis.call('ZADD', K.deliveries_due, 'LT', math.max(soonest, now), id)
  else redis.call('ZADD', K.deliveries_due, math.max(soonest, now), id) end
end

-- Where a delivery stands among those of its endpoint: by time, or by the order of events.
local function place_of(endpoint, stream_id, at_ms)
  if endpoint.fifo ~= '1' then return at_ms end
  local ms, sequence = string.match(stream_id, '^(%d+)-(%d+)$')
  return tonumber(ms) * 1024 + math.min(tonumber(sequence), 1023)
end

-- News about deliveries and endpoints that could not be delivered must not breed more of it.
local function tells_of_delivery(kind)
  return string.match(kind, '^delivery%.') or string.match(kind, '^endpoint%.')
end

-- A delivery is given up: a dead letter with its reason, until somebody replays it.
local function bury(id, endpoint_id, kind, event_type, event_at, reason)
  redis.call('HSET', K.delivery(id), 'state', 'dead', 'finished_at', now, 'reason', reason)
  redis.call('ZADD', K.deliveries_dead, now, id)
  redis.call('ZREMRANGEBYRANK', K.deliveries_dead, 0, -LIMIT.dead - 1)
  if kind ~= '' then
    local dead = K.endpoint_dead(endpoint_id)
    redis.call('ZADD', dead, event_at, id)
    redis.call('ZREMRANGEBYRANK', dead, 0, -LIMIT.dead - 1)
    redis.call('EXPIRE', dead, LIMIT.delivery_ttl)
    count('deliveries:' .. kind .. ':dead')
  end
  if not tells_of_delivery(event_type) then
    emit('delivery.dead', '', '', cjson.encode({ delivery = id, endpoint = endpoint_id,
      event_type = event_type, reason = reason }))
  end
end

-- Files one event for one endpoint, once. The suffix of the endpoint's id makes the delivery's id.
-- `event`: {id, type, at, mission, task, data}; its text is stored once for all its deliveries.
local function file_delivery(event, endpoint_id)
  local endpoint = endpoint_of(endpoint_id)
  local id = 'dlv_' .. event.id .. '_' .. string.sub(endpoint_id, 5)
  if endpoint.kind == '' or endpoint.state == 'disabled'
    or redis.call('EXISTS', K.delivery(id)) == 1 then
    return false
  end
  local body = K.event_body(event.id)
  if not event.kept then
    event.kept = true
    redis.call('HSET', body, 'type', event.type, 'at', event.at, 'mission', event.mission,
      'task', event.task, 'data', event.data)
    redis.call('EXPIRE', body, LIMIT.delivery_ttl)
  end
  local event_at = tonumber(string.match(event.id, '^%d+'))
  -- Only a push is about whether the question is still open; a program wants the story whole.
  local question = endpoint.kind == 'push' and event.question or ''
  redis.call('HSET', K.delivery(id), 'endpoint', endpoint_id, 'kind', endpoint.kind,
    'event', event.id, 'type', event.type, 'question', question, 'state', 'due', 'attempt', 0,
    'created_at', now, 'due_at', now, 'event_at', event_at)
  redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
  local log = K.endpoint_deliveries(endpoint_id)
  redis.call('ZADD', log, now, id)
  redis.call('ZREMRANGEBYRANK', log, 0, -LIMIT.endpoint_log - 1)
  redis.call('EXPIRE', log, LIMIT.delivery_ttl)
  if redis.call('ZCARD', K.endpoint_due(endpoint_id)) >= LIMIT.backlog then
    bury(id, endpoint_id, endpoint.kind, event.type, event_at,
      'the endpoint is too far behind: ' .. LIMIT.backlog .. ' deliveries wait for it')
    return true
  end
  redis.call('ZADD', K.endpoint_due(endpoint_id), place_of(endpoint, event.id, now), id)
  -- This may be what those behind it wait for.
  if endpoint.waits == '1' then
    set_endpoint(endpoint_id, endpoint, { hold_until = 0, waits = '' })
  end
  queue_endpoint(endpoint_id, endpoint, true)
  return true
end

-- Makes a delivery that ended due again; its story goes on with the next attempt's number.
local function revive_delivery(id, delivery, endpoint)
  redis.call('HSET', K.delivery(id), 'state', 'due', 'due_at', now, 'finished_at', '',
    'question', '', 'losses', 0, 'replayed_from', delivery.attempt)
  redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
  redis.call('EXPIRE', K.event_body(delivery.event), LIMIT.delivery_ttl)
  redis.call('ZREM', K.deliveries_dead, id)
  redis.call('ZREM', K.endpoint_dead(delivery.endpoint), id)
  redis.call('ZADD', K.endpoint_due(delivery.endpoint), place_of(endpoint, delivery.event, now), id)
  queue_endpoint(delivery.endpoint, endpoint, true)
end

-- An endpoint comes into being or is changed: how it wants to be treated.
local function treat_endpoint(id, kind, cap, fifo, interval_ms, burst_ms)
  local health = K.endpoint_health(id)
  redis.call('HSETNX', health, 'state', 'active')
  redis.call('HSET', health, 'kind', kind, 'cap', cap, 'fifo', fifo,
    'interval_ms', interval_ms, 'burst_ms', burst_ms)
end

local function forget_endpoint(id)
  redis.call('UNLINK', K.endpoint_health(id), K.endpoint_due(id), K.endpoint_flight(id),
    K.endpoint_deliveries(id), K.endpoint_dead(id))
  redis.call('ZREM', K.deliveries_due, id)
end

-- Nothing is sent any more until a person resumes it; what is due waits.
local function disable_endpoint(id, endpoint, reason)
  set_endpoint(id, endpoint, { state = 'disabled', disabled_reason = reason, failures = 0,
    failing_since = '', open_until = 0, trips = 0, hold_until = 0, pace_ms = 0, warned = '' })
  redis.call('HINCRBY', K.endpoints, 'version', 1)
  emit('endpoint.disabled', '', '', cjson.encode({ endpoint = id, reason = reason }))
end

-- Callbacks and replays ------------------------------------------------------------------------

-- The callback of a mission is an endpoint that comes and goes with it, under the mission's own id.
local function callback_of(mission) return 'end_' .. string.sub(mission, 5) end

local function matches(pattern, kind)
  if pattern == '*' or pattern == kind then return true end
  return string.sub(pattern, -2) == '.*'
    and string.sub(kind, 1, #pattern - 1) == string.sub(pattern, 1, -2)
end

local function listed(patterns, kind)
  for _, pattern in ipairs(patterns) do
    if matches(pattern, kind) then return true end
  end
  return false
end

local function callback_wants(event)
  if event.mission == '' then return false end
  local record = redis.call('HGET', K.callbacks, callback_of(event.mission))
  return record and listed(cjson.decode(record).events, event.type)
end

-- The notifier's own rule (models/endpoint.py `wants`) for what a replay finds on the stream.
local function wants(record, event)
  local nobody_starts = event.type == 'worker.lost' and cjson.decode(event.data).failed_starts
  if not listed(record.events, event.type)
    and not (nobody_starts and listed(record.events, 'mission.failed')) then
    return false
  end
  if tells_of_delivery(event.type) and cjson.decode(event.data).endpoint == record.id then
    return false
  end
  local filter = record.filter or {}
  if type(filter.mission_id) == 'string' and filter.mission_id ~= event.mission then
    return false
  end
  if not filter.labels or next(filter.labels) == nil then return true end
  if event.mission == '' then return false end
  local labels = {}
  local text = redis.call('HGET', K.mission(event.mission), 'labels') or '[]'
  for _, label in ipairs(cjson.decode(text)) do labels[label] = true end
  for name, value in pairs(filter.labels) do
    if not labels[name .. '=' .. value] then return false end
  end
  return true
end
