-- record_attempt: the notifier that leased an attempt writes how it went, with the endpoint's health.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, delivery, attempt, outcome (delivered|retry|dead|obsolete), delay_ms, reason, tried (JSON),
--   kind (push), duration_ms
-- Returns: {1, state} done, also when repeated · {-2} another attempt owns it now · {-1} unknown delivery
-- Events: delivery.dead, endpoint.failing, endpoint.recovered
local id, attempt, outcome, reason, kind = ARGV[2], ARGV[3], ARGV[4], ARGV[6], ARGV[8]
local delivery = some(K.delivery(id), 'state', 'attempt', 'endpoint', 'type', 'event_at', 'tries')
if delivery.state == '' then return { -1 } end
if delivery.attempt ~= attempt or delivery.state ~= 'due' then
  if delivery.attempt == attempt then return { 1, delivery.state } end
  return { -2 }
end
local endpoint = delivery.endpoint
local tries = delivery.tries == '' and {} or cjson.decode(delivery.tries)
if #tries > 0 and tries[#tries].number == tonumber(attempt) then return { 1, delivery.state } end
local known = redis.call('HEXISTS', K.endpoints, endpoint) == 1
if not known and outcome ~= 'delivered' then
  outcome, reason = 'obsolete', 'the endpoint was removed'
end
tries[#tries + 1] = cjson.decode(ARGV[7])
while #tries > LIMIT.tries do table.remove(tries, 1) end
redis.call('HSET', K.delivery(id), 'tries', cjson.encode(tries))

local due = K.endpoint_due(endpoint)
if outcome == 'retry' then
  local again = now + tonumber(ARGV[5])
  redis.call('HSET', K.delivery(id), 'due_at', again, 'reason', reason)
  redis.call('ZADD', due, again, id)
else
  redis.call('HSET', K.delivery(id), 'state', outcome, 'finished_at', now, 'reason', reason)
  redis.call('ZREM', due, id)
  count('deliveries:' .. kind .. ':' .. outcome)
end
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
if first[1] then redis.call('ZADD', K.deliveries_due, first[2], endpoint)
else redis.call('ZREM', K.deliveries_due, endpoint) end
-- Nothing was sent: it says nothing about the endpoint.
if outcome == 'obsolete' then return { 1, outcome } end
observe('delivery_' .. kind, tonumber(ARGV[9]))

local health = some(K.endpoint_health(endpoint), 'state', 'failures')
local told = string.match(delivery.type, '^delivery%.') or string.match(delivery.type, '^endpoint%.')
if outcome == 'delivered' then
  if delivery.type == 'question.asked' then
    observe('question_to_push', now - tonumber(delivery.event_at))
  end
  if known then
    redis.call('HSET', K.endpoint_health(endpoint), 'failures', 0, 'last_delivery_at', now,
      'last_error', '')
    if health.state == 'failing' then
      redis.call('HSET', K.endpoint_health(endpoint), 'state', 'active')
      emit('endpoint.recovered', '', '', cjson.encode({ endpoint = endpoint }))
    end
  end
  return { 1, 'delivered' }
end
if known then
  local failures = redis.call('HINCRBY', K.endpoint_health(endpoint), 'failures', 1)
  redis.call('HSET', K.endpoint_health(endpoint), 'last_error', reason)
  if failures >= LIMIT.failing_after and health.state == 'active' then
    redis.call('HSET', K.endpoint_health(endpoint), 'state', 'failing')
    -- An event about this endpoint that could not reach it must not breed another.
    emit('endpoint.failing', '', '', cjson.encode({ endpoint = endpoint, reason = reason }))
  end
end
if outcome == 'dead' then
  redis.call('ZADD', K.deliveries_dead, now, id)
  redis.call('ZREMRANGEBYRANK', K.deliveries_dead, 0, -LIMIT.dead - 1)
  if not told then
    emit('delivery.dead', '', '', cjson.encode({ delivery = id, endpoint = endpoint,
      event_type = delivery.type, reason = reason }))
  end
end
return { 1, outcome == 'retry' and 'due' or outcome }
