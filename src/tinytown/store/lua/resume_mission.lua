-- resume_mission: a paused mission goes on; what was put aside is queued again.
-- KEYS: events
-- ARGV: now, mission
-- Returns: {1, state} · {0, state} the move is illegal · {-1} unknown mission
-- Events: mission.resumed, task.queued
local id = ARGV[2]
local mission = mission_of(id)
if mission.state == '' then return { -1 } end
if not allowed('mission', 'resume', mission.state) then return { 0, mission.state } end
redis.call('HSET', K.mission(id), 'paused', 0)
mission.paused = '0'
local facts = {}
if tonumber(mission.not_before) > now then facts.not_before_ms = tonumber(mission.not_before) end
follow_tasks(id, mission, facts)
for _, task_id in ipairs(task_ids(id)) do
  local task = task_of(task_id)
  if task.state == 'pending' and task.deferred == '1' then
    undefer(task_id, task)
    make_ready(task_id, task, mission, 'task.queued', {})
  end
end
return { 1, mission.state }
