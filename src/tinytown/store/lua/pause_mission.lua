-- pause_mission: nothing new of a mission starts; what runs may finish.
-- KEYS: events
-- ARGV: now, mission
-- Returns: {1, "paused"} · {0, state} the move is illegal · {-1} unknown mission
-- Events: mission.paused
local id = ARGV[2]
local mission = mission_of(id)
if mission.state == '' then return { -1 } end
if not allowed('mission', 'pause', mission.state) then return { 0, mission.state } end
redis.call('HSET', K.mission(id), 'paused', 1)
mission.paused = '1'
for _, task_id in ipairs(task_ids(id)) do
  local task = task_of(task_id)
  if task.state == 'queued' then
    leave_docket(task_id, task)
    task_to(task_id, task, 'pending')
    defer(task_id, task)
  end
end
follow_tasks(id, mission, {})
return { 1, mission.state }
