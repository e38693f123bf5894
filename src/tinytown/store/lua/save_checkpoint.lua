-- save_checkpoint: the holder of the lease leaves what another worker needs to go on.
-- KEYS: events
-- ARGV: now, task, attempt, checkpoint
-- Returns: {1} · {-2} the lease is not its own any more · {-1} unknown task
-- Events: none (the move that follows tells)
local id = ARGV[2]
local task = task_of(id)
if task.state == '' then return { -1 } end
if not lease_is(task, ARGV[3]) then return { -2 } end
redis.call('SET', K.task_checkpoint(id), ARGV[4])
redis.call('HSET', K.task(id), 'checkpoint', ARGV[3])
return { 1 }
