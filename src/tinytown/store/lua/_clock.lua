-- The clock's half of every script: what happens to a record when its time has come.
-- It stands below _town.lua and _endings.lua, whose moves it uses; `tick` runs it.

local DUE = {}

-- A lease that ran out: its worker said nothing for as long, so it is given up as well. Left to its
-- own timer it would count as idle for minutes, and nobody be started for the task it lost.
function DUE.lease(id)
  local worker = task_of(id).worker
  lose_lease(id, 'its worker went silent')
  if worker ~= '' then DUE.worker(worker) end
end

function DUE.later(id)
  local task = task_of(id)
  redis.call('ZREM', K.timers, 'later:' .. id)
  redis.call('ZREM', K.later(task.pool), id)
  if task.state ~= 'pending' or task.deferred ~= '1' then return end
  local mission = mission_of(task.mission)
  if mission.paused == '1' then return end
  undefer(id, task)
  make_ready(id, task, mission, 'task.queued', {})
end

function DUE.question(id)
  local question = question_of(id)
  redis.call('ZREM', K.timers, 'question:' .. id)
  if not allowed('question', 'expire', question.state) then return end
  if question.has_default == '1' then
    resolve_question(id, question, 'expired', 'defaulted', question.default, '', '')
  else
    resolve_question(id, question, 'expired', 'no_answer', '', '', '')
  end
end

local function forget_worker(id, pool)
  for _, priority in ipairs({ 'high', 'normal', 'low' }) do
    redis.pcall('XGROUP', 'DELCONSUMER', K.docket(pool, priority), 'workers', id)
  end
end

-- A worker that went silent. Its task is taken back here too: the lease may run a little longer.
function DUE.worker(id)
  local worker = worker_of(id)
  redis.call('ZREM', K.timers, 'worker:' .. id)
  if not allowed('worker', 'lose', worker.state) then return end
  worker_to(id, worker, 'lost', 'stopped_at', now)
  redis.call('SREM', K.draining, id)
  emit('worker.lost', '', worker.task, cjson.encode({ worker = id, task = worker.task }))
  if worker.task ~= '' then
    local task = task_of(worker.task)
    if task.worker == id then lose_lease(worker.task, 'its worker went silent') end
  end
  for pool in string.gmatch(redis.call('HGET', K.worker(id), 'pools') or '', '%S+') do
    forget_worker(id, pool)
  end
  redis.call('ZADD', K.timers, now + LIMIT.gone_ms, 'gone:' .. id)
end

function DUE.gone(id)
  local worker = worker_of(id)
  redis.call('ZREM', K.timers, 'gone:' .. id)
  redis.call('ZREM', K.workers, id)
  if worker.state == 'lost' or worker.state == 'stopped' then
    gauge('workers:' .. worker.pool .. ':' .. worker.state, -1)
    redis.call('DEL', K.worker(id), K.worker_inbox(id))
  end
end

-- Retention: an ended mission leaves the indexes and its keys go.
function DUE.retire(id)
  redis.call('ZREM', K.timers, 'retire:' .. id)
  local mission = some(K.mission(id), 'state', 'labels', 'thread')
  if mission.state == '' then
    -- Nobody ticked for so long that it expired by itself; lists by label skip it.
    redis.call('ZREM', K.missions, id)
    for _, state in ipairs({ 'completed', 'failed', 'canceled' }) do
      redis.call('ZREM', K.missions_by_state(state), id)
    end
    return
  end
  for _, task in ipairs(task_ids(id)) do
    local state = redis.call('HMGET', K.task(task), 'pool', 'state')
    gauge('tasks:' .. state[1] .. ':' .. state[2], -1)
    redis.call('UNLINK', K.task(task), K.task_patch(task), K.task_bundle(task),
      K.task_checkpoint(task), K.task_asked(task))
  end
  for _, question in ipairs(redis.call('ZRANGE', K.mission_questions(id), 0, -1)) do
    redis.call('UNLINK', K.question(question))
  end
  redis.call('ZREM', K.missions, id)
  redis.call('ZREM', K.missions_by_state(mission.state), id)
  for _, label in ipairs(cjson.decode(mission.labels)) do
    redis.call('ZREM', K.missions_by_label(redis.sha1hex(label)), id)
  end
  redis.call('UNLINK', K.mission(id), K.mission_tasks(id), K.mission_events(id),
    K.mission_log(id), K.mission_messages(id), K.mission_questions(id))
  local thread = K.thread(mission.thread)
  if redis.call('GET', thread) == id then redis.call('UNLINK', thread) end
  if redis.call('HDEL', K.callbacks, callback_of(id)) == 1 then forget_endpoint(callback_of(id)) end
end

-- What a replay's endpoint never got, as it was disabled. Of an event older than the records of
-- deliveries nobody knows any more whether it was filed: it is not taken for a missing one.
local function file_missing(endpoint_id, from, untill)
  local text = redis.call('HGET', K.endpoints, endpoint_id)
    or redis.call('HGET', K.callbacks, endpoint_id)
  if not text then return 0, nil end
  local record = cjson.decode(text)
  local known = now - LIMIT.delivery_ttl * 1000
  if tonumber(string.match(from, '%d+')) < known then from = known end
  local rows = redis.call('XRANGE', K.events, from, untill, 'COUNT', LIMIT.replay_batch)
  local filed = 0
  for _, row in ipairs(rows) do
    local event = { id = row[1] }
    for i = 1, #row[2], 2 do event[row[2][i]] = row[2][i + 1] end
    if event.type == 'question.asked' then event.question = cjson.decode(event.data).question_id end
    if wants(record, event) and file_delivery(event, endpoint_id) then filed = filed + 1 end
  end
  return filed, #rows == LIMIT.replay_batch and '(' .. rows[#rows][1] or nil
end

-- One batch of a replay; it is due again at once until nothing is left.
function DUE.replay(id)
  redis.call('ZREM', K.timers, 'replay:' .. id)
  local replay = some(K.replay(id), 'state', 'endpoint', 'since', 'until', 'missing', 'cursor')
  if replay.state ~= 'running' then return end
  local todo = redis.call('ZPOPMIN', K.replay_todo(id), LIMIT.replay_batch)
  local done = 0
  for i = 1, #todo, 2 do
    local delivery = some(K.delivery(todo[i]), 'state', 'endpoint', 'attempt', 'event')
    local endpoint = endpoint_of(delivery.endpoint)
    if delivery.state == 'dead' and endpoint.kind ~= '' then
      revive_delivery(todo[i], delivery, endpoint)
      done = done + 1
    end
  end
  local cursor
  local more = #todo == 2 * LIMIT.replay_batch
  if not more and replay.missing == '1' then
    local from = replay.cursor ~= '' and replay.cursor or replay.since
    local filed
    filed, cursor = file_missing(replay.endpoint, from, replay['until'])
    done, more = done + filed, cursor ~= nil
  end
  redis.call('HINCRBY', K.replay(id), 'done', done)
  if more then
    redis.call('HSET', K.replay(id), 'cursor', cursor or '')
    redis.call('ZADD', K.timers, now, 'replay:' .. id)
  else
    redis.call('HSET', K.replay(id), 'state', 'done', 'finished_at', now)
  end
end

-- Handles what is due, oldest first; leases lost while nobody ticked are taken back here too.
local function run_timers(limit)
  local due = redis.call('ZRANGEBYSCORE', K.timers, '-inf', now, 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    local kind, id = string.match(member, '^(%w+):(.+)$')
    DUE[kind](id)
  end
  return #due
end
