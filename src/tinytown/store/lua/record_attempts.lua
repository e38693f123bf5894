-- record_attempts: a notifier writes how attempts went that it leased, with their endpoints' health.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, ended (JSON)
--   ended: array of {delivery, attempt, outcome (delivered|retry|dead|obsolete), delay_ms, reason,
--   tried (an Attempt), duration_ms, effect (''|throttle|disable|spare), hold_ms}
-- Returns: one for each: 1 done, also when repeated · -2 another attempt owns it now · -1 unknown
-- Events: delivery.dead, endpoint.failing, endpoint.recovered, endpoint.disabled
local endpoints = {}

local function went_well(delivery, endpoint, reason, effect)
  if delivery.type == 'question.asked' and delivery.kind == 'push' then
    observe('question_to_push', now - tonumber(delivery.event_at))
  end
  if endpoint.kind == '' then return end
  local changes = { failures = 0, last_delivery_at = now, last_error = '' }
  if number(endpoint.failures) > 0 then
    changes.failing_since, changes.open_until, changes.trips, changes.warned = '', 0, 0, ''
  end
  -- Slowed down by half at every throttle, faster by one request a second with every success.
  local pace = number(endpoint.pace_ms)
  if pace > 0 then
    pace = math.floor(1000 / (1000 / pace + 1))
    changes.pace_ms = pace >= LIMIT.pace_floor_ms and pace or 0
  end
  if endpoint.state == 'failing' then changes.state = 'active' end
  local recovered = endpoint.state == 'failing'
  set_endpoint(delivery.endpoint, endpoint, changes)
  if recovered then
    emit('endpoint.recovered', '', '', cjson.encode({ endpoint = delivery.endpoint }))
  end
  if effect == 'disable' and endpoint.state ~= 'disabled' then
    disable_endpoint(delivery.endpoint, endpoint, reason)
  end
end

-- The first delivery given up is news even where the circuit has not opened; a receiver that goes on
-- choking on some and taking others is news once a day.
local function first_given_up(id, endpoint)
  if now - number(redis.call('HGET', K.endpoint_health(id), 'gave_up_at')) < LIMIT.gave_up_ms then
    return false
  end
  set_endpoint(id, endpoint, { gave_up_at = now })
  return true
end

local function went_wrong(id, endpoint, outcome, reason, effect, hold_ms)
  local failures = number(endpoint.failures) + 1
  local since = number(endpoint.failing_since)
  local changes = { failures = failures, last_error = reason }
  if since == 0 then since, changes.failing_since = now, now end
  if effect == 'throttle' then
    changes.pace_ms = math.min(LIMIT.pace_ceiling_ms,
      math.max(LIMIT.pace_first_ms, number(endpoint.pace_ms) * 2))
  end
  if hold_ms > 0 then
    changes.hold_until = math.max(number(endpoint.hold_until), now + hold_ms)
  end
  local webhook = endpoint.kind == 'webhook'
  -- An open circuit opens further only when its probe fails, not by those already on their way.
  if webhook and failures >= LIMIT.breaker_after and number(endpoint.open_until) <= now then
    changes.trips = number(endpoint.trips) + 1
    changes.open_until = now
      + math.min(LIMIT.breaker_ms * 2 ^ (changes.trips - 1), LIMIT.breaker_ceiling_ms)
  end
  local facts = { endpoint = id, reason = reason }
  local tell = false
  if endpoint.state == 'active'
    and (failures >= (webhook and LIMIT.breaker_after or LIMIT.failing_after)
      or webhook and outcome == 'dead' and effect ~= 'spare' and effect ~= 'disable'
        and first_given_up(id, endpoint)) then
    changes.state, tell = 'failing', true
  end
  if webhook and now - since >= LIMIT.disable_after_ms / 2 and endpoint.warned == ''
    and failures >= LIMIT.disable_failures then
    changes.warned, tell = '1', true
    facts.first_failure_at_ms = since
    facts.disabled_at_ms = since + LIMIT.disable_after_ms
  end
  set_endpoint(id, endpoint, changes)
  if effect == 'disable' then
    disable_endpoint(id, endpoint, reason)
  elseif webhook and now - since >= LIMIT.disable_after_ms
    and failures >= LIMIT.disable_failures then
    disable_endpoint(id, endpoint, 'nothing got through for '
      .. math.floor((now - since) / 86400000) .. ' days: ' .. reason)
  -- An event about this endpoint that could not reach it must not breed another.
  elseif tell then
    emit('endpoint.failing', '', '', cjson.encode(facts))
  end
end

local function record(one)
  local id, outcome, reason, hold_ms = one.delivery, one.outcome, one.reason, one.hold_ms
  local delivery = some(K.delivery(id), 'state', 'attempt', 'endpoint', 'kind', 'type', 'event',
    'event_at', 'tries')
  if delivery.state == '' then return -1 end
  if tonumber(delivery.attempt) ~= one.attempt then return -2 end
  local tries = delivery.tries == '' and {} or cjson.decode(delivery.tries)
  if delivery.state ~= 'due' or (#tries > 0 and tries[#tries].number == one.attempt) then
    return 1
  end
  local endpoint_id = delivery.endpoint
  local endpoint = endpoints[endpoint_id] or endpoint_of(endpoint_id)
  endpoints[endpoint_id] = endpoint
  if endpoint.kind == '' and outcome ~= 'delivered' then
    outcome, reason = 'obsolete', 'the endpoint was removed'
  end
  tries[#tries + 1] = one.tried
  while #tries > LIMIT.tries do table.remove(tries, 1) end
  -- One whose lease ended and that nobody has leased since is due.
  if redis.call('ZREM', K.endpoint_flight(endpoint_id), id) == 0 then
    redis.call('ZREM', K.endpoint_due(endpoint_id), id)
  end
  local changes = { 'tries', cjson.encode(tries), 'reason', reason }
  if outcome == 'retry' then
    local again = now + one.delay_ms
    redis.call('HSET', K.delivery(id), 'due_at', again, unpack(changes))
    redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
    redis.call('EXPIRE', K.event_body(delivery.event), LIMIT.delivery_ttl)
    redis.call('ZADD', K.endpoint_due(endpoint_id), place_of(endpoint, delivery.event, again), id)
    -- In order means that those behind it wait as well.
    if endpoint.fifo == '1' then hold_ms = math.max(hold_ms, one.delay_ms) end
  elseif outcome == 'dead' then
    redis.call('HSET', K.delivery(id), unpack(changes))
  else
    redis.call('HSET', K.delivery(id), 'state', outcome, 'finished_at', now, unpack(changes))
    count('deliveries:' .. delivery.kind .. ':' .. outcome)
  end
  -- What was not sent says nothing about the endpoint.
  if outcome ~= 'obsolete' then
    observe('delivery_' .. delivery.kind, one.duration_ms)
    if outcome == 'delivered' then went_well(delivery, endpoint, reason, one.effect)
    elseif endpoint.state ~= 'disabled' then
      went_wrong(endpoint_id, endpoint, outcome, reason, one.effect, hold_ms)
    end
  end
  if outcome == 'dead' then
    bury(id, endpoint_id, delivery.kind, delivery.type, tonumber(delivery.event_at), reason)
  end
  return 1
end

local replies = {}
for index, one in ipairs(cjson.decode(ARGV[2])) do replies[index] = record(one) end
for id, endpoint in pairs(endpoints) do
  if endpoint.kind ~= '' then queue_endpoint(id, endpoint) end
end
return replies
