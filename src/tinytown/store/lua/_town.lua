-- What follows from what: workers, missions, tasks, questions and how one moves the other.
-- It stands on _ground.lua.

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
      -- What ended last may have gone well: the reason is that of the last task that did not.
      facts.reason = facts.reason or redis.call('HGET', K.mission(id), 'reason')
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
