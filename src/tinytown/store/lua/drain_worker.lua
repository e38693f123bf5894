-- drain_worker: a worker takes nothing new; it finishes or hands back and leaves.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, worker
-- Returns: {1, "draining"} · {0, state} the move is illegal · {-1} unknown worker
-- Events: worker.draining
local id = ARGV[2]
local worker = worker_of(id)
if worker.state == '' then return { -1 } end
if worker.state == 'draining' then return { 1, 'draining' } end
if not allowed('worker', 'drain', worker.state) then return { 0, worker.state } end
worker_to(id, worker, 'draining')
redis.call('SADD', K.draining, id)
emit('worker.draining', '', worker.task, cjson.encode({ worker = id }))
signal(id, 'kind', 'drain')
return { 1, 'draining' }
