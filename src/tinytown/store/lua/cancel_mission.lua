-- cancel_mission: a person ends a mission; its tasks end with it and their workers hear at once.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, mission, by
-- Returns: {1, "canceled"} · {0, state} the move is illegal · {-1} unknown mission
-- Events: question.withdrawn, mission.canceled
local id = ARGV[2]
local mission = mission_of(id)
if mission.state == '' then return { -1 } end
if not allowed('mission', 'cancel', mission.state) then return { 0, mission.state } end
for _, task_id in ipairs(task_ids(id)) do
  local task = task_of(task_id)
  if allowed('task', 'cancel', task.state) then
    if task.state == 'running' or task.state == 'blocked' then
      signal(task.worker, 'kind', 'cancel', 'task', task_id, 'attempt', task.attempt)
    end
    end_task(task_id, task, mission, 'canceled', 'reason', 'the mission was canceled')
  end
end
end_mission(id, mission, 'canceled', 'mission.canceled', { by = ARGV[3] })
return { 1, 'canceled' }
