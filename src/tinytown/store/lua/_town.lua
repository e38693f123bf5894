-- The shared half of every script: keys, the clock, moves, events and what follows from them.
-- scripts.py puts the key builders (K), the tables of moves (MOVES) and the bounds (LIMIT) above
-- this text, and one script's body below it. KEYS[1] is always the town's event stream, ARGV[1]
-- always the time in milliseconds; 0 means the server's own clock (only tests pass another).

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function fields(key)
  local flat = redis.call('HGETALL', key)
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

local function some(key, ...)
  local record = redis.call('HMGET', key, ...)
  for i = 1, #record do record[select(i, ...)], record[i] = record[i] or '', nil end
  return record
end

local function allowed(noun, move, state) return MOVES[noun][move][state] == true end

-- What is counted is written once, when the script is done (store/assembly.py): a task that passes
-- through a state in one breath costs nothing, and a name counted twice one command.
local counted, gauged = {}, {}

local function count(name, by) counted[name] = (counted[name] or 0) + (by or 1) end

local function gauge(name, by) gauged[name] = (gauged[name] or 0) + by end

local function write_books()
  for name, by in pairs(counted) do
    if by ~= 0 then redis.call('HINCRBY', K.counters, name, by) end
  end
  for name, by in pairs(gauged) do
    if by ~= 0 then redis.call('HINCRBY', K.gauges, name, by) end
  end
end

-- A histogram in milliseconds: one counter per bucket and one for the sum.
local function observe(name, ms)
  ms = math.max(0, math.floor(ms))
  local bucket = 'inf'
  for _, bound in ipairs(LIMIT.buckets_ms) do
    if ms <= bound then bucket = bound break end
  end
  count('histogram:' .. name .. ':' .. bucket)
  count('histogram:' .. name .. ':sum_ms', ms)
end

-- Every change of state is told here, in the same breath. Returns the event's stream id.
local at = string.format('%.0f', now)

local function emit(kind, mission, task, data)
  local id = redis.call('XADD', K.events, 'MAXLEN', '~', LIMIT.events, '*', 'type', kind,
    'at', at, 'mission', mission, 'task', task, 'data', data)
  if mission ~= '' then
    redis.call('XADD', K.mission_events(mission), 'MAXLEN', '~', LIMIT.mission_events, id,
      'type', kind, 'at', at, 'task', task, 'data', data)
  end
  count('events:' .. kind)
  return id
end

local function signal(worker, ...)
  if worker == '' then return end
  local inbox = K.worker_inbox(worker)
  redis.call('XADD', inbox, 'MAXLEN', '~', LIMIT.inbox, '*', ...)
  redis.call('EXPIRE', inbox, LIMIT.inbox_ttl)
end

-- Workers ------------------------------------------------------------------------------------

local SPENT = { starting = 'boot', idle = 'idle', busy = 'busy', draining = 'drain' }

local function worker_of(id)
  return some(K.worker(id), 'state', 'pool', 'since', 'task', 'rested')
end

local function worker_to(id, worker, to, ...)
  local kind = SPENT[worker.state]
  if kind then count('agent_ms:' .. kind, math.max(0, now - tonumber(worker.since))) end
  redis.call('HSET', K.worker(id), 'state', to, 'since', at, ...)
  gauge('workers:' .. worker.pool .. ':' .. worker.state, -1)
  gauge('workers:' .. worker.pool .. ':' .. to, 1)
  worker.state = to
end

-- A worker whose task ended is idle again; a draining one stays draining.
local function free_worker(id, task)
  if id == '' then return end
  local worker = worker_of(id)
  if worker.task ~= task then return end
  if worker.state == 'busy' then
    worker_to(id, worker, 'idle', 'task', '', 'rested', '')
  elseif worker.state ~= '' then
    redis.call('HSET', K.worker(id), 'task', '')
  end
end

-- Missions -----------------------------------------------------------------------------------

local function mission_of(id, ...)
  return some(K.mission(id), 'state', 'title', 'created_at', 'open', 'blocked', 'failed',
    'paused', 'started_at', 'not_before', 'has_asked', 'has_log', 'has_messages', 'has_work', ...)
end

-- A mission remembers which of its optional keys there are, so that its end need not ask for each.
local function note_key(id, mission, what)
  if mission[what] == '1' then return end
  mission[what] = '1'
  redis.call('HSET', K.mission(id), what, '1')
end

-- Counts of tasks change in memory and are written with the move that follows (follow_tasks).
local function bump(mission, name, by)
  mission[name] = tostring(mission[name] + by)
  mission.bumped = true
end

local function write_bumps(id, mission)
  if not mission.bumped then return end
  mission.bumped = nil
  redis.call('HSET', K.mission(id), 'open', mission.open, 'blocked', mission.blocked,
    'failed', mission.failed)
end

local function mission_to(id, mission, to, ...)
  if mission.bumped then
    mission.bumped = nil
    redis.call('HSET', K.mission(id), 'open', mission.open, 'blocked', mission.blocked,
      'failed', mission.failed, 'state', to, ...)
  else
    redis.call('HSET', K.mission(id), 'state', to, ...)
  end
  redis.call('ZREM', K.missions_by_state(mission.state), id)
  redis.call('ZADD', K.missions_by_state(to), mission.created_at, id)
  mission.state = to
end

local function task_ids(mission) return redis.call('ZRANGE', K.mission_tasks(mission), 0, -1) end

-- Everything of an ended mission expires together; the retire timer removes it from the indexes.
local function expire_mission(id, mission)
  local ttl = LIMIT.retention_ms + LIMIT.grace_ms
  local function expire(key) redis.call('PEXPIRE', key, ttl) end
  expire(K.mission(id))
  expire(K.mission_tasks(id))
  expire(K.mission_events(id))
  if mission.has_log == '1' then expire(K.mission_log(id)) end
  if mission.has_messages == '1' then expire(K.mission_messages(id)) end
  for _, task in ipairs(task_ids(id)) do
    expire(K.task(task))
    if mission.has_work == '1' then
      expire(K.task_patch(task))
      expire(K.task_bundle(task))
    end
    if mission.has_asked == '1' then expire(K.task_asked(task)) end
  end
  if mission.has_asked == '1' then
    expire(K.mission_questions(id))
    for _, question in ipairs(redis.call('ZRANGE', K.mission_questions(id), 0, -1)) do
      expire(K.question(question))
    end
  end
  redis.call('ZADD', K.timers, now + LIMIT.retention_ms, 'retire:' .. id)
end

local function end_mission(id, mission, to, kind, facts)
  mission_to(id, mission, to, 'finished_at', now)
  count('missions_finished:' .. to)
  facts.title = mission.title
  facts.state = to
  if mission.started_at ~= '' then
    facts.duration_seconds = (now - tonumber(mission.started_at)) / 1000
  end
  emit(kind, id, '', cjson.encode(facts))
  expire_mission(id, mission)
end

-- A mission's state follows from its tasks; called after every change of one of them.
local function follow_tasks(id, mission, facts)
  if mission.open == '0' then
    if tonumber(mission.failed) > 0 then
      end_mission(id, mission, 'failed', 'mission.failed', facts)
    else
      end_mission(id, mission, 'completed', 'mission.completed', facts)
    end
    return
  end
  local to = 'queued'
  if mission.paused == '1' then to = 'paused'
  elseif tonumber(mission.blocked) > 0 then to = 'blocked'
  elseif mission.started_at ~= '' then to = 'running' end
  local from = mission.state
  if from == to then return write_bumps(id, mission) end
  mission_to(id, mission, to, 'started_at', mission.started_at)
  local kind = 'mission.started'
  if to == 'blocked' then kind = 'mission.blocked'
  elseif from == 'blocked' then kind = 'mission.unblocked' end
  if to == 'paused' then kind = 'mission.paused' elseif from == 'paused' then kind = 'mission.resumed' end
  facts.title = mission.title
  facts.state = to
  emit(kind, id, '', cjson.encode(facts))
end

-- Tasks --------------------------------------------------------------------------------------

local function task_of(id)
  return some(K.task(id), 'mission', 'name', 'state', 'attempt', 'losses', 'max_attempts', 'pool',
    'priority', 'dependents', 'deps', 'deferred', 'entry', 'worker', 'questions', 'queued_at',
    'claimed_at', 'parked', 'checkpoint')
end

local function task_to(id, task, to, ...)
  redis.call('HSET', K.task(id), 'state', to, ...)
  gauge('tasks:' .. task.pool .. ':' .. task.state, -1)
  gauge('tasks:' .. task.pool .. ':' .. to, 1)
  task.state = to
end

-- `...`: what else is written with it, of a task that is just being made.
local function enqueue(id, task, kind, facts, ...)
  local entry = redis.call('XADD', K.docket(task.pool, task.priority), '*', 'task', id)
  task_to(id, task, 'queued', 'entry', entry, 'queued_at', now, 'deferred', '0', 'worker', '',
    'questions', '0', 'parked', '0', ...)
  redis.call('ZADD', K.waiting(task.pool), now, id)
  facts.name = task.name
  facts.pool = task.pool
  emit(kind, task.mission, id, cjson.encode(facts))
end

local function defer(id, task, ...)
  redis.call('HSET', K.task(id), 'deferred', '1', ...)
  gauge('deferred:' .. task.pool, 1)
end

local function undefer(id, task)
  if task.deferred ~= '1' then return end
  redis.call('HSET', K.task(id), 'deferred', '0')
  redis.call('ZREM', K.timers, 'later:' .. id)
  redis.call('ZREM', K.later(task.pool), id)
  gauge('deferred:' .. task.pool, -1)
  task.deferred = '0'
end

-- A pending task that waits for no other task: onto the docket, or aside until it may.
local function make_ready(id, task, mission, kind, facts, ...)
  if mission.paused == '1' then
    defer(id, task, ...)
  elseif tonumber(mission.not_before) > now then
    defer(id, task, 'state', 'pending', ...)
    redis.call('ZADD', K.timers, mission.not_before, 'later:' .. id)
    redis.call('ZADD', K.later(task.pool), mission.not_before, id)
  else
    enqueue(id, task, kind, facts, ...)
  end
end

local function leave_docket(id, task)
  local stream = K.docket(task.pool, task.priority)
  redis.call('XDEL', stream, task.entry)
  if task.state == 'queued' then
    redis.call('ZREM', K.waiting(task.pool), id)
  else
    redis.call('XACK', stream, 'workers', task.entry)
    redis.call('ZREM', K.timers, 'lease:' .. id)
  end
end

-- A parked task is blocked without a worker: nobody holds its lease.
local function lease_is(task, attempt)
  return task.attempt == attempt and task.parked ~= '1'
    and (task.state == 'running' or task.state == 'blocked')
end

-- A task that ran or was blocked waits for a worker again, or is put aside in a paused mission.
local function requeue(id, task, mission, reason)
  if task.state == 'blocked' then bump(mission, 'blocked', -1) end
  local facts = { reason = reason, attempt = tonumber(task.attempt) }
  if mission.paused == '1' then
    task_to(id, task, 'pending', 'worker', '', 'parked', '0')
    defer(id, task)
    facts.name = task.name
    facts.pool = task.pool
    emit('task.requeued', task.mission, id, cjson.encode(facts))
  else
    enqueue(id, task, 'task.requeued', facts)
  end
  follow_tasks(task.mission, mission, {})
end

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
