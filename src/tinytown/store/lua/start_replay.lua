-- start_replay: a person wants many deliveries made due again; the clock does it, batch by batch.
-- KEYS: events
-- ARGV: now, replay, endpoint ('' = all), since (ms), until (ms, '' = now), missing (0|1), by
-- Returns: {1, total} begun · {2} it is begun already · {-1} unknown endpoint
-- Events: none (each delivery's next attempt tells)
local id, endpoint, since, untill = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', K.replay(id)) == 1 then return { 2 } end
if endpoint ~= '' and endpoint_of(endpoint).kind == '' then return { -1 } end
if untill == '' then untill = now end
-- A snapshot: what dies again while this runs is not taken twice.
local todo = K.replay_todo(id)
local from = endpoint ~= '' and K.endpoint_dead(endpoint) or K.deliveries_dead
local total = redis.call('ZRANGESTORE', todo, from, since, untill, 'BYSCORE')
redis.call('EXPIRE', todo, LIMIT.delivery_ttl)
redis.call('HSET', K.replay(id), 'state', 'running', 'endpoint', endpoint, 'since', since,
  'until', untill, 'missing', ARGV[6], 'total', total, 'done', 0, 'created_at', now, 'by', ARGV[7])
redis.call('EXPIRE', K.replay(id), LIMIT.delivery_ttl)
redis.call('ZADD', K.replays, now, id)
redis.call('ZREMRANGEBYRANK', K.replays, 0, -LIMIT.replays - 1)
redis.call('ZADD', K.timers, now, 'replay:' .. id)
return { 1, total }
