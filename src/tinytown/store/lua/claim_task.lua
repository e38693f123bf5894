-- claim_task: a worker takes the most urgent waiting task of its pools and gets its lease.
-- KEYS: events
-- ARGV: now, worker, lease_ms, silence_ms, ticked (1: what was due has been handled), pools…
-- Returns: {1, task, mission, attempt, lease_until, spec, {name, instructions, agent, pool, after,
--   dependents, checkpoint}, {messages}} claimed, also when repeated ·
--   {3, next_due, {stream, last_id, …}} nothing waits: block on these streams after these ids ·
--   {4} something is due, perhaps a lost task: tick, then ask again ·
--   {0, state} this worker may not claim · {-1} unknown worker
-- Events: task.started, mission.started, worker.idle
local id, lease_ms, silence_ms = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local worker = worker_of(id)
if worker.state == '' then return { -1 } end
local function claimed(task_id, task, attempt, lease_until, mission)
  local messages = {}
  if mission.has_messages == '1' then
    messages = redis.call('LRANGE', K.mission_messages(task.mission), 0, -1)
  end
  return { 1, task_id, task.mission, attempt, lease_until, mission.spec,
    { task.name, task.instructions, task.agent, task.pool, task.after, task.dependents,
      task.checkpoint }, messages }
end

local function claimable(task_id)
  return some(K.task(task_id), 'mission', 'name', 'state', 'attempt', 'pool', 'priority', 'entry',
    'queued_at', 'worker', 'instructions', 'agent', 'after', 'dependents', 'checkpoint')
end

-- A worker that holds a task and asks for one never heard of it: the reply was lost on its way.
if worker.task ~= '' then
  local held = claimable(worker.task)
  if held.state == 'running' and held.worker == id then
    redis.call('ZADD', K.timers, now + lease_ms, 'lease:' .. worker.task)
    return claimed(worker.task, held, tonumber(held.attempt), now + lease_ms,
      mission_of(held.mission, 'spec'))
  end
end
if worker.state ~= 'idle' and worker.state ~= 'starting' then return { 0, worker.state } end
redis.call('ZADD', K.timers, now + silence_ms, 'worker:' .. id)
redis.call('ZADD', K.workers, now, id)

local first = redis.call('ZRANGE', K.timers, 0, 0, 'WITHSCORES')
if ARGV[5] ~= '1' and tonumber(first[2]) <= now then return { 4 } end

local function read(stream)
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'workers', id, 'COUNT', 1, 'STREAMS', stream, '>')
  if reply and reply.err then
    redis.call('XGROUP', 'CREATE', stream, 'workers', '0-0', 'MKSTREAM')
    reply = redis.call('XREADGROUP', 'GROUP', 'workers', id, 'COUNT', 1, 'STREAMS', stream, '>')
  end
  if not reply then return nil end
  local entry = reply[1][2][1]
  return entry[1], entry[2] and entry[2][2]
end

local function take(stream)
  while redis.call('XLEN', stream) > 0 do
    local entry, task_id = read(stream)
    if not entry then return nil end
    local task = task_id and claimable(task_id)
    if task and task.state == 'queued' and task.entry == entry then return task_id, task end
    -- A stale entry: its task was canceled, paused or queued anew since.
    redis.call('XACK', stream, 'workers', entry)
    redis.call('XDEL', stream, entry)
  end
end

local busy_pools, task_id, task = {}, nil, nil
for i = 6, #ARGV do
  if redis.call('ZCARD', K.waiting(ARGV[i])) > 0 then busy_pools[#busy_pools + 1] = ARGV[i] end
end
for _, priority in ipairs({ 'high', 'normal', 'low' }) do
  for _, pool in ipairs(busy_pools) do
    if not task_id then task_id, task = take(K.docket(pool, priority)) end
  end
end

if not task_id then
  local streams = {}
  for i = 6, #ARGV do
    for _, priority in ipairs({ 'high', 'normal', 'low' }) do
      local stream = K.docket(ARGV[i], priority)
      local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
      streams[#streams + 1] = stream
      streams[#streams + 1] = last[1] and last[1][1] or '0-0'
    end
  end
  if worker.state == 'starting' then worker_to(id, worker, 'idle') end
  if worker.rested ~= '1' then
    redis.call('HSET', K.worker(id), 'rested', '1')
    emit('worker.idle', '', '', cjson.encode({ worker = id }))
  end
  return { 3, tonumber(first[2]), streams }
end

local attempt = tonumber(task.attempt) + 1
local lease_until = now + lease_ms
redis.call('ZREM', K.waiting(task.pool), task_id)
redis.call('ZADD', K.timers, lease_until, 'lease:' .. task_id)
task_to(task_id, task, 'running', 'attempt', attempt, 'worker', id, 'claimed_at', at,
  'started_at', at)
if worker.state == 'starting' then starts_forgiven(worker.pool) end
observe(worker.state == 'starting' and 'wake_cold' or 'wake_warm', now - tonumber(task.queued_at))
worker_to(id, worker, 'busy', 'task', task_id)
emit('task.started', task.mission, task_id,
  cjson.encode({ name = task.name, worker = id, attempt = attempt, lease_ms = lease_ms }))

local mission = mission_of(task.mission, 'spec')
if mission.started_at == '' then mission.started_at = at end
follow_tasks(task.mission, mission, {})
return claimed(task_id, task, attempt, lease_until, mission)
