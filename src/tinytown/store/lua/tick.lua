-- tick: what is due by time is handled, and the caller learns when the next thing is.
-- Any number of townhalls may tick: each due thing is handled once, by whoever comes first.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, limit
-- Returns: {1, handled, next_due (0 = nothing), now}
-- Events: what the due moves tell (task.requeued, task.dead, question.expired, worker.lost, …)
local handled = 0
local first = redis.call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')
if first[2] and tonumber(first[2]) <= now then
  handled = run_timers(tonumber(ARGV[2]))
  first = redis.call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')
end
return { 1, handled, tonumber(first[2] or 0), now }
