-- park_task: a blocked task gives its worker back while a person sleeps; the answer queues it.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, task, attempt
-- Returns: {1} parked, also when repeated · {0, state} somebody has just answered: go on ·
--   {-2} the lease is not its own any more · {-1} unknown task
-- Events: task.progressed (parked)
local id = ARGV[2]
local task = task_of(id)
if task.state == '' then return { -1 } end
if task.parked == '1' and task.attempt == ARGV[3] then return { 1 } end
if not lease_is(task, ARGV[3]) then return { -2 } end
if task.state ~= 'blocked' then return { 0, task.state } end
leave_docket(id, task)
free_worker(task.worker, id)
redis.call('HSET', K.task(id), 'parked', '1', 'worker', '')
emit('task.progressed', task.mission, id, cjson.encode({ name = task.name, parked = true,
  text = 'waits for a person without a worker' }))
return { 1 }
