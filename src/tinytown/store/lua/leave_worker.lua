-- leave_worker: a worker goes home; one that is only idle may not while something waits for it.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, worker, always (1: also while tasks wait), reason
-- Returns: {1, "stopped"} · {0, "waiting"} there is work · {0, state} it still holds a task ·
--   {-1} unknown worker
-- Events: worker.stopped
local id = ARGV[2]
local worker = worker_of(id)
if worker.state == '' then return { -1 } end
if worker.state == 'stopped' then return { 1, 'stopped' } end
if not allowed('worker', 'stop', worker.state) then return { 0, worker.state } end
if worker.task ~= '' then return { 0, worker.state } end
local pools = redis.call('HGET', K.worker(id), 'pools')
if ARGV[3] ~= '1' and worker.state ~= 'draining' then
  for pool in string.gmatch(pools, '%S+') do
    if redis.call('ZCARD', K.waiting(pool)) > 0 then return { 0, 'waiting' } end
  end
end
worker_to(id, worker, 'stopped', 'stopped_at', now)
redis.call('SREM', K.draining, id)
for pool in string.gmatch(pools, '%S+') do forget_worker(id, pool) end
redis.call('ZREM', K.timers, 'worker:' .. id)
redis.call('ZADD', K.timers, now + LIMIT.gone_ms, 'gone:' .. id)
redis.call('DEL', K.worker_inbox(id))
emit('worker.stopped', '', '', cjson.encode({ worker = id, reason = ARGV[4] }))
return { 1, 'stopped' }
