-- claim_deliveries: a notifier leases what is due, oldest endpoint first, one per endpoint.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, lease_ms, limit, busy endpoints…
-- Returns: {1, next_due (0 = nothing), now, {id, endpoint, event, attempt, created_at, try, …}}
-- Events: none; a push for a question that is no longer open becomes obsolete here
local lease_ms, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
-- Most often nothing is due; on a Redis that is paid by the command that should cost one.
local soonest = redis.call('ZRANGE', K.deliveries_due, 0, 0, 'WITHSCORES')
if not soonest[2] or tonumber(soonest[2]) > now then
  return { 1, tonumber(soonest[2] or 0), now, {} }
end
local busy = {}
for i = 4, #ARGV do busy[ARGV[i]] = true end

local function reschedule(endpoint)
  local first = redis.call('ZRANGE', K.endpoint_due(endpoint), 0, 0, 'WITHSCORES')
  if first[1] then
    redis.call('ZADD', K.deliveries_due, first[2], endpoint)
  else
    redis.call('ZREM', K.deliveries_due, endpoint)
  end
end

local function first_due(endpoint)
  while true do
    local id = redis.call('ZRANGEBYSCORE', K.endpoint_due(endpoint), '-inf', now, 'LIMIT', 0, 1)[1]
    if not id then return nil end
    local delivery = some(K.delivery(id), 'state', 'question', 'endpoint', 'event', 'attempt',
      'created_at', 'replayed_from')
    local answered = delivery.question ~= ''
      and redis.call('HGET', K.question(delivery.question), 'state') ~= 'open'
    if delivery.state == 'due' and not answered then return id, delivery end
    redis.call('ZREM', K.endpoint_due(endpoint), id)
    if delivery.state == 'due' then
      redis.call('HSET', K.delivery(id), 'state', 'obsolete', 'finished_at', now,
        'reason', 'the question is no longer open')
      count('deliveries:push:obsolete')
    end
  end
end

local found = {}
local due = redis.call('ZRANGEBYSCORE', K.deliveries_due, '-inf', now, 'LIMIT', 0,
  limit + #ARGV - 3)
for _, endpoint in ipairs(due) do
  if #found / 6 >= limit then break end
  if redis.call('HGET', K.endpoint_health(endpoint), 'state') == 'disabled' then
    -- Paused: what is due stays and waits for `revive`.
    redis.call('ZREM', K.deliveries_due, endpoint)
  elseif not busy[endpoint] then
    local id, delivery = first_due(endpoint)
    if id then
      local attempt = redis.call('HINCRBY', K.delivery(id), 'attempt', 1)
      redis.call('HSET', K.delivery(id), 'due_at', now + lease_ms)
      redis.call('ZADD', K.endpoint_due(endpoint), now + lease_ms, id)
      for _, value in ipairs({ id, endpoint, delivery.event, attempt, delivery.created_at,
        attempt - (tonumber(delivery.replayed_from) or 0) }) do
        found[#found + 1] = value
      end
    end
    reschedule(endpoint)
  end
end

local first = redis.call('ZRANGEBYSCORE', K.deliveries_due, '-inf', '+inf', 'WITHSCORES',
  'LIMIT', 0, #ARGV - 3 + 1)
local next_due = 0
for i = 1, #first, 2 do
  if not busy[first[i]] then next_due = tonumber(first[i + 1]) break end
end
return { 1, next_due, now, found }
