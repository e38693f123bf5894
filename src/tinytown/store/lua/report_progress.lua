-- report_progress: the holder of the lease says how far its task is.
-- KEYS: events
-- ARGV: now, task, attempt, data (JSON)
-- Returns: {1} · {-2} lease lost · {-1} unknown task
-- Events: task.progressed
local task = task_of(ARGV[2])
if task.state == '' then return { -1 } end
if not lease_is(task, ARGV[3]) then return { -2 } end
emit('task.progressed', task.mission, ARGV[2], ARGV[4])
return { 1 }
