-- claim_deliveries: a notifier leases what is due: endpoint by endpoint, each within its bounds.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, lease_ms, limit, webhooks (how many of them may be webhooks)
-- Returns: {1, next_due (0 = nothing), now, version of the endpoints, {id, endpoint, attempt, created_at,
--   try, event id, kind, …}, {event id, {its fields}, …} each event once}
-- Events: delivery.dead; a push for a question that is no longer open becomes obsolete here
local lease_ms, limit, webhooks = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Most often nothing is due; on a Redis that is paid by the command that should cost one.
local soonest = redis.call('ZRANGE', K.deliveries_due, 0, 0, 'WITHSCORES')
if not soonest[2] or tonumber(soonest[2]) > now then
  return { 1, tonumber(soonest[2] or 0), now, '', {}, {} }
end

local function delivery_of(id)
  return some(K.delivery(id), 'state', 'question', 'event', 'type', 'attempt', 'created_at',
    'event_at', 'replayed_from', 'kind')
end

-- Those whose notifier went silent are due since the end of its lease; one that outlives several
-- notifiers is poison.
local function take_back(endpoint_id, endpoint)
  local flight = K.endpoint_flight(endpoint_id)
  local lapsed = redis.call('ZRANGEBYSCORE', flight, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 100)
  for i = 1, #lapsed, 2 do
    local id, lease_end = lapsed[i], lapsed[i + 1]
    redis.call('ZREM', flight, id)
    local delivery = delivery_of(id)
    if delivery.state == 'due' then
      local losses = redis.call('HINCRBY', K.delivery(id), 'losses', 1)
      if losses >= LIMIT.losses then
        bury(id, endpoint_id, delivery.kind, delivery.type, delivery.event_at,
          'gave up after ' .. losses .. ' notifiers were lost while they sent it')
      else
        redis.call('ZADD', K.endpoint_due(endpoint_id),
          place_of(endpoint, delivery.event, lease_end), id)
      end
    end
  end
end

-- Notifiers plan side by side: what happened earlier may be filed a moment later, or when the event
-- of a lost notifier is found again. One that was tried so often that nobody can plan it holds
-- nobody up, and hides none that came after it.
local function all_earlier_planned(stream_id)
  local pending = redis.pcall('XPENDING', K.events, 'notifiers', '-', '(' .. stream_id, 10)
  if pending.err then return true end
  for _, entry in ipairs(pending) do
    if entry[4] < LIMIT.planning_tries then return false end
  end
  return true
end

local function first_due(endpoint_id, endpoint)
  local due = K.endpoint_due(endpoint_id)
  local expired, last = 0, nil
  local function tell_expired()
    if not last then return end
    emit('delivery.dead', '', '', cjson.encode({ delivery = last, endpoint = endpoint_id,
      event_type = '', reason = expired .. ' expired while their endpoint was disabled' }))
  end
  for _ = 1, LIMIT.sweep do
    local id
    if endpoint.fifo == '1' then id = redis.call('ZRANGE', due, 0, 0)[1]
    else id = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 1)[1] end
    if not id then break end
    local delivery = delivery_of(id)
    local answered = delivery.question ~= ''
      and redis.call('HGET', K.question(delivery.question), 'state') ~= 'open'
    if delivery.state == 'due' and not answered then
      tell_expired()
      if endpoint.fifo ~= '1' or all_earlier_planned(delivery.event) then return id, delivery end
      set_endpoint(endpoint_id, endpoint, { hold_until = now + LIMIT.ordering_ms, waits = '1' })
      return nil
    end
    redis.call('ZREM', due, id)
    if delivery.state == 'due' then
      redis.call('HSET', K.delivery(id), 'state', 'obsolete', 'finished_at', now,
        'reason', 'the question is no longer open')
      count('deliveries:push:obsolete')
    elseif delivery.state == '' then
      expired, last = expired + 1, id
    end
  end
  tell_expired()
end

local found, leased, bodies, told = {}, 0, {}, {}
local left_waiting = false
-- More endpoints than places: webhooks that have none left must not hide the phones behind them.
for _, endpoint_id in ipairs(redis.call('ZRANGEBYSCORE', K.deliveries_due, '-inf', now,
  'LIMIT', 0, limit + LIMIT.endpoints)) do
  if leased >= limit then break end
  local endpoint = endpoint_of(endpoint_id)
  if endpoint.kind == '' then
    forget_endpoint(endpoint_id)
  elseif endpoint.kind == 'webhook' and webhooks <= 0 then
    left_waiting = true
  else
    take_back(endpoint_id, endpoint)
    local room = math.min(room_of(endpoint_id, endpoint), limit - leased)
    if endpoint.kind == 'webhook' then room = math.min(room, webhooks) end
    while room > 0 and endpoint.state ~= 'disabled' and gate_of(endpoint) <= now do
      local id, delivery = first_due(endpoint_id, endpoint)
      if not id then break end
      room, leased = room - 1, leased + 1
      if endpoint.kind == 'webhook' then webhooks = webhooks - 1 end
      local attempt = number(delivery.attempt) + 1
      redis.call('HSET', K.delivery(id), 'attempt', attempt, 'due_at', now + lease_ms)
      redis.call('ZREM', K.endpoint_due(endpoint_id), id)
      redis.call('ZADD', K.endpoint_flight(endpoint_id), now + lease_ms, id)
      if endpoint.waits == '1' then set_endpoint(endpoint_id, endpoint, { waits = '' }) end
      local interval = math.max(number(endpoint.interval_ms), number(endpoint.pace_ms))
      if interval > 0 then
        set_endpoint(endpoint_id, endpoint,
          { tat = math.max(now, number(endpoint.tat)) + interval })
      end
      for _, value in ipairs({ id, endpoint_id, attempt, delivery.created_at,
        attempt - number(delivery.replayed_from), delivery.event, endpoint.kind }) do
        found[#found + 1] = value
      end
      if not told[delivery.event] then
        told[delivery.event] = true
        bodies[#bodies + 1] = delivery.event
        bodies[#bodies + 1] = redis.call('HGETALL', K.event_body(delivery.event))
      end
    end
    queue_endpoint(endpoint_id, endpoint)
  end
end

-- Those left waiting are due; whoever gets done asks again for them.
local first = redis.call('ZRANGEBYSCORE', K.deliveries_due, left_waiting and '(' .. at or '-inf',
  '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local version = redis.call('HGET', K.endpoints, 'version') or '0'
return { 1, tonumber(first[2] or 0), now, version, found, bodies }
