-- retry_mission: a failed or canceled mission runs again; completed tasks stay completed.
-- KEYS: events
-- ARGV: now, mission
-- Returns: {1, "queued"} · {0, state} the move is illegal · {-1} unknown mission
-- Events: mission.resumed, task.requeued
local id = ARGV[2]
local mission = mission_of(id)
if mission.state == '' then return { -1 } end
if not allowed('mission', 'retry', mission.state) then return { 0, mission.state } end
redis.call('HDEL', K.mission(id), 'finished_at', 'reason', 'started_at')
redis.call('HSET', K.mission(id), 'failed', 0, 'paused', 0, 'blocked', 0)
redis.call('ZREM', K.timers, 'retire:' .. id)
for _, key in ipairs({ K.mission(id), K.mission_tasks(id), K.mission_events(id), K.mission_log(id),
  K.mission_messages(id), K.mission_questions(id) }) do
  redis.call('PERSIST', key)
end
for _, question in ipairs(redis.call('ZRANGE', K.mission_questions(id), 0, -1)) do
  redis.call('PERSIST', K.question(question))
end

local again = {}
for _, task_id in ipairs(task_ids(id)) do
  local task = task_of(task_id)
  for _, key in ipairs({ K.task(task_id), K.task_patch(task_id), K.task_bundle(task_id),
    K.task_asked(task_id) }) do
    redis.call('PERSIST', key)
  end
  if task.state ~= 'completed' then
    task_to(task_id, task, 'pending', 'losses', 0, 'reason', '', 'finished_at', '', 'worker', '')
    again[#again + 1] = task_id
  end
end
redis.call('HSET', K.mission(id), 'open', #again)
mission_to(id, mission, 'queued')
mission = mission_of(id)
local facts = { title = mission.title, state = 'queued', reason = 'retry' }
if tonumber(mission.not_before) > now then facts.not_before_ms = tonumber(mission.not_before) end
emit('mission.resumed', id, '', cjson.encode(facts))

-- What each task still waits for is counted anew from those that run again.
local waits = {}
for _, task_id in ipairs(again) do
  for dependent in string.gmatch(task_of(task_id).dependents, '%S+') do
    waits[dependent] = (waits[dependent] or 0) + 1
  end
end
for _, task_id in ipairs(again) do
  redis.call('HSET', K.task(task_id), 'deps', waits[task_id] or 0)
  if not waits[task_id] then
    make_ready(task_id, task_of(task_id), mission, 'task.requeued', { reason = 'retry' })
  end
end
return { 1, 'queued' }
