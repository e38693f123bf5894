-- read_missions: missions with their tasks and their oldest open question, in one step.
-- flags: no-writes
-- KEYS: events
-- ARGV: now, missions…
-- Returns: {{id, {fields}, {{task, {fields}}, …}, {question, {fields}} or {}}, …} without unknown ones
-- Events: none
local found = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local mission = redis.call('HGETALL', K.mission(id))
  if #mission > 0 then
    local tasks = {}
    for _, task in ipairs(task_ids(id)) do
      tasks[#tasks + 1] = { task, redis.call('HGETALL', K.task(task)) }
    end
    local question = {}
    for _, asked in ipairs(redis.call('ZRANGE', K.mission_questions(id), 0, -1)) do
      if redis.call('HGET', K.question(asked), 'state') == 'open' then
        question = { asked, redis.call('HGETALL', K.question(asked)) }
        break
      end
    end
    found[#found + 1] = { id, mission, tasks, question }
  end
end
return found
