-- release_task: the holder of the lease hands its task back at once (it drains, or cannot go on).
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, task, attempt, reason, counts (1: a loss towards the dead letter, 0: an honest return)
-- Returns: {1} back on the docket · {-2} the lease is not its own any more · {-1} unknown task
-- Events: task.requeued (or task.dead), mission.unblocked
local id, attempt, reason = ARGV[2], ARGV[3], ARGV[4]
local task = task_of(id)
if task.state == '' then return { -1 } end
if not lease_is(task, attempt) then return { -2 } end
if ARGV[5] == '1' then
  lose_lease(id, reason)
else
  release(id, task, mission_of(task.mission), reason)
end
return { 1 }
