-- send_message: a sentence from a person for a mission's agents; the running ones hear it now.
-- KEYS: events
-- ARGV: now, mission, message (JSON of Message without its time)
-- Returns: {1, heard} stored, and how many workers were told · {0, state} the mission has ended ·
--   {-1} unknown mission · {-3} too many messages
-- Events: task.progressed per running task that is told
local id = ARGV[2]
local mission = mission_of(id)
if mission.state == '' then return { -1 } end
if allowed('mission', 'cancel', mission.state) == false then return { 0, mission.state } end
local list = K.mission_messages(id)
if redis.call('LLEN', list) >= LIMIT.messages then return { -3 } end
local message = cjson.decode(ARGV[3])
for _, known in ipairs(redis.call('LRANGE', list, 0, -1)) do
  if cjson.decode(known).id == message.id then return { 1, 0 } end
end
message.at_ms = now
note_key(id, mission, 'has_messages')
redis.call('RPUSH', list, cjson.encode(message))
local heard = 0
for _, task_id in ipairs(task_ids(id)) do
  local task = task_of(task_id)
  if task.state == 'running' or task.state == 'blocked' then
    signal(task.worker, 'kind', 'message', 'task', task_id, 'message', cjson.encode(message))
    emit('task.progressed', id, task_id,
      cjson.encode({ name = task.name, message = message.text, by = message.by }))
    heard = heard + 1
  end
end
return { 1, heard }
