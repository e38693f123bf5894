-- renew_lease: a worker shows that it lives and keeps the lease of its task, if it has one.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, worker, silence_ms, lease_ms, task ('' for none), attempt
-- Returns: {1, worker state, lease_until} · {-2} the lease is not its own any more ·
--   {-1} unknown worker · {0, state} the worker was given up
-- Events: none (nothing changes its state)
local id, silence_ms, lease_ms, task_id, attempt =
  ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
local worker = worker_of(id)
if worker.state == '' then return { -1 } end
if worker.state == 'lost' or worker.state == 'stopped' then return { 0, worker.state } end
redis.call('ZADD', K.timers, now + silence_ms, 'worker:' .. id)
redis.call('ZADD', K.workers, now, id)
redis.call('EXPIRE', K.worker(id), LIMIT.worker_ttl)
redis.call('EXPIRE', K.worker_inbox(id), LIMIT.inbox_ttl)
if task_id == '' then return { 1, worker.state, 0 } end
if not lease_is(task_of(task_id), attempt) then return { -2 } end
redis.call('ZADD', K.timers, now + lease_ms, 'lease:' .. task_id)
return { 1, worker.state, now + lease_ms }
