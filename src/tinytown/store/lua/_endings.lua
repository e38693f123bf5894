-- How questions and tasks end, and what follows for those that wait for them.
-- It stands below _town.lua, whose moves it uses.

-- Questions ----------------------------------------------------------------------------------

local function question_of(id)
  return some(K.question(id), 'mission', 'task', 'attempt', 'state', 'text', 'kind', 'default',
    'has_default', 'asked_at', 'title', 'answer', 'answered_by', 'answered_via', 'answered_at')
end

-- Ends a question; the caller looks after the task. `facts` goes into the event.
local function close_question(id, question, to, outcome, answer, by, via)
  redis.call('HSET', K.question(id), 'state', to, 'outcome', outcome, 'answer', answer,
    'answered_by', by, 'answered_via', via, 'answered_at', now)
  redis.call('ZREM', K.questions_open, id)
  redis.call('ZREM', K.timers, 'question:' .. id)
  question.state = to
  local facts = { question_id = id, text = question.text, kind = question.kind, outcome = outcome,
    title = question.title }
  if to == 'answered' or outcome == 'defaulted' then facts.answer = answer end
  if to == 'answered' then
    facts.answered_by = by
    facts.answered_via = via
    observe('answer', now - tonumber(question.asked_at))
  end
  emit('question.' .. to, question.mission, question.task, cjson.encode(facts))
end

-- Ends a question and lets the task that waits for it go on.
local function resolve_question(id, question, to, outcome, answer, by, via)
  close_question(id, question, to, outcome, answer, by, via)
  local task = task_of(question.task)
  if task.state ~= 'blocked' or task.attempt ~= question.attempt then return end
  signal(task.worker, 'kind', 'answer', 'task', question.task, 'question', id)
  if redis.call('HINCRBY', K.task(question.task), 'questions', -1) > 0 then return end
  local mission = mission_of(task.mission)
  if task.parked == '1' then
    requeue(question.task, task, mission, 'its question has ended')
    return
  end
  task_to(question.task, task, 'running')
  bump(mission, 'blocked', -1)
  follow_tasks(task.mission, mission, {})
end

local function withdraw_questions(id)
  local asked = redis.call('HVALS', K.task_asked(id))
  for _, question_id in ipairs(asked) do
    local question = question_of(question_id)
    if question.state == 'open' then
      close_question(question_id, question, 'withdrawn', 'withdrawn', '', '', '')
    end
  end
end

-- Endings of tasks ---------------------------------------------------------------------------

-- A task's end: off the docket, its questions withdrawn, its worker freed, its mission counted.
-- Returns the names of the tasks that can no longer run.
local function end_task(id, task, mission, to, ...)
  if task.state == 'running' or task.state == 'blocked' or task.state == 'queued' then
    leave_docket(id, task)
  end
  if task.state == 'blocked' then bump(mission, 'blocked', -1) end
  undefer(id, task)
  if mission.has_asked == '1' then withdraw_questions(id) end
  free_worker(task.worker, id)
  if (tonumber(task.checkpoint) or 0) > 0 then redis.call('UNLINK', K.task_checkpoint(id)) end
  task_to(id, task, to, 'finished_at', now, 'parked', '0', 'checkpoint', '0', ...)
  bump(mission, 'open', -1)
  if to == 'failed' or to == 'dead' then bump(mission, 'failed', 1) end
  local dropped = {}
  if to ~= 'completed' then
    for dependent in string.gmatch(task.dependents, '%S+') do
      local other = task_of(dependent)
      if other.state == 'pending' then
        for _, name in ipairs(end_task(dependent, other, mission, 'canceled',
          'reason', task.name .. ' did not complete')) do
          dropped[#dropped + 1] = name
        end
        dropped[#dropped + 1] = other.name
      end
    end
  end
  return dropped
end

-- Takes a leased task from its worker; the caller has checked that it may.
local function release(id, task, mission, reason)
  leave_docket(id, task)
  free_worker(task.worker, id)
  count('redelivered')
  requeue(id, task, mission, reason)
end

-- A lease ran out: back on the docket, or dead when it has lost too many workers.
local function lose_lease(id, reason)
  local task = task_of(id)
  if task.state ~= 'running' and task.state ~= 'blocked' then
    redis.call('ZREM', K.timers, 'lease:' .. id)
    return
  end
  local mission = mission_of(task.mission)
  local losses = redis.call('HINCRBY', K.task(id), 'losses', 1)
  if losses < tonumber(task.max_attempts) then
    release(id, task, mission, reason)
    return
  end
  local why = 'gave up after ' .. losses .. ' lost workers: ' .. reason
  local dropped = end_task(id, task, mission, 'dead', 'reason', why)
  local facts = { name = task.name, reason = why, attempt = tonumber(task.attempt) }
  if #dropped > 0 then facts.canceled = dropped end
  emit('task.dead', task.mission, id, cjson.encode(facts))
  redis.call('HSET', K.mission(task.mission), 'reason', why)
  follow_tasks(task.mission, mission, { reason = why })
end
