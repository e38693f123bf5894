-- record_attempt: the notifier that leased an attempt writes how it went, with the endpoint's health.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, delivery, attempt, outcome (delivered|retry|dead|obsolete), delay_ms, reason, tried (JSON),
--   duration_ms, effect (''|throttle|disable), hold_ms
-- Returns: {1, state} done, also when repeated · {-2} another attempt owns it now · {-1} unknown delivery
-- Events: delivery.dead, endpoint.failing, endpoint.recovered, endpoint.disabled
local id, attempt, outcome, delay_ms, reason, duration_ms, effect, hold_ms = ARGV[2], ARGV[3],
  ARGV[4], tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[8]), ARGV[9], tonumber(ARGV[10])
local delivery = some(K.delivery(id), 'state', 'attempt', 'endpoint', 'kind', 'type', 'event',
  'event_at', 'tries')
if delivery.state == '' then return { -1 } end
if delivery.attempt ~= attempt or delivery.state ~= 'due' then
  if delivery.attempt == attempt then return { 1, delivery.state } end
  return { -2 }
end
local endpoint_id, kind = delivery.endpoint, delivery.kind
local tries = delivery.tries == '' and {} or cjson.decode(delivery.tries)
if #tries > 0 and tries[#tries].number == tonumber(attempt) then return { 1, delivery.state } end
local endpoint = endpoint_of(endpoint_id)
local known = endpoint.kind ~= ''
if not known and outcome ~= 'delivered' then
  outcome, reason = 'obsolete', 'the endpoint was removed'
end
tries[#tries + 1] = cjson.decode(ARGV[7])
while #tries > LIMIT.tries do table.remove(tries, 1) end
redis.call('HSET', K.delivery(id), 'tries', cjson.encode(tries))
redis.call('ZREM', K.endpoint_flight(endpoint_id), id)
redis.call('ZREM', K.endpoint_due(endpoint_id), id)

if outcome == 'retry' then
  local again = now + delay_ms
  redis.call('HSET', K.delivery(id), 'due_at', again, 'reason', reason)
  redis.call('EXPIRE', K.delivery(id), LIMIT.delivery_ttl)
  redis.call('EXPIRE', K.event_body(delivery.event), LIMIT.delivery_ttl)
  redis.call('ZADD', K.endpoint_due(endpoint_id), place_of(endpoint, delivery.event, again), id)
  -- In order means that those behind it wait as well.
  if endpoint.fifo == '1' then hold_ms = math.max(hold_ms, delay_ms) end
elseif outcome ~= 'dead' then
  redis.call('HSET', K.delivery(id), 'state', outcome, 'finished_at', now, 'reason', reason)
  count('deliveries:' .. kind .. ':' .. outcome)
end

local function went_well()
  if delivery.type == 'question.asked' and kind == 'push' then
    observe('question_to_push', now - tonumber(delivery.event_at))
  end
  if not known then return end
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
  set_endpoint(endpoint_id, endpoint, changes)
  if recovered then
    emit('endpoint.recovered', '', '', cjson.encode({ endpoint = endpoint_id }))
  end
  if effect == 'disable' and endpoint.state ~= 'disabled' then
    disable_endpoint(endpoint_id, endpoint, reason)
  end
end

local function went_wrong()
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
  local webhook = kind == 'webhook'
  -- An open circuit opens further only when its probe fails, not by those already on their way.
  if webhook and failures >= LIMIT.breaker_after and number(endpoint.open_until) <= now then
    changes.trips = number(endpoint.trips) + 1
    changes.open_until = now
      + math.min(LIMIT.breaker_ms * 2 ^ (changes.trips - 1), LIMIT.breaker_ceiling_ms)
  end
  local facts = { endpoint = endpoint_id, reason = reason }
  local tell = false
  if endpoint.state == 'active'
    and failures >= (webhook and LIMIT.breaker_after or LIMIT.failing_after) then
    changes.state, tell = 'failing', true
  end
  if webhook and now - since >= LIMIT.disable_after_ms / 2 and endpoint.warned == ''
    and failures >= LIMIT.disable_failures then
    changes.warned, tell = '1', true
    facts.first_failure_at_ms = since
    facts.disabled_at_ms = since + LIMIT.disable_after_ms
  end
  set_endpoint(endpoint_id, endpoint, changes)
  if effect == 'disable' then
    disable_endpoint(endpoint_id, endpoint, reason)
  elseif webhook and now - since >= LIMIT.disable_after_ms
    and failures >= LIMIT.disable_failures then
    disable_endpoint(endpoint_id, endpoint, 'nothing got through for '
      .. math.floor((now - since) / 86400000) .. ' days: ' .. reason)
  -- An event about this endpoint that could not reach it must not breed another.
  elseif tell then
    emit('endpoint.failing', '', '', cjson.encode(facts))
  end
end

-- What was not sent says nothing about the endpoint.
if outcome ~= 'obsolete' then
  observe('delivery_' .. kind, duration_ms)
  if outcome == 'delivered' then went_well()
  elseif endpoint.state ~= 'disabled' then went_wrong() end
end
if outcome == 'dead' then
  bury(id, endpoint_id, kind, delivery.type, tonumber(delivery.event_at), reason)
end
if known then queue_endpoint(endpoint_id, endpoint) end
return { 1, outcome == 'retry' and 'due' or outcome }
