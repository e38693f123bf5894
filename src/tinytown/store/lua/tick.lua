-- tick: the one dispatcher handles what is due by time and learns when the next thing is.
-- KEYS: events
-- ARGV: now, holder, hold_ms, limit
-- Returns: {1, handled, next_due (0 = nothing), now} · {0, left_ms} another dispatcher ticks
-- Events: what the due moves tell (task.requeued, task.dead, question.expired, worker.lost, …)
local holder = redis.call('GET', K.dispatcher)
if holder and holder ~= ARGV[2] then return { 0, redis.call('PTTL', K.dispatcher) } end
redis.call('SET', K.dispatcher, ARGV[2], 'PX', ARGV[3])
local handled = run_timers(tonumber(ARGV[4]))
local first = redis.call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')
return { 1, handled, tonumber(first[2] or 0), now }
