-- start_mission: a mission with its tasks comes into being; those that wait for nothing are queued.
-- KEYS: events
-- ARGV: now, mission, title, spec, priority, not_before, labels, actor, max_attempts, tasks,
--   callback ('' or the JSON of its endpoint), thread (digest; '' for none)
--   spec: the JSON of StartMission; labels: JSON array of "name=value"; tasks: JSON array of
--   {id, name, pool, agent, instructions, depends_on (JSON text), deps, dependents, after}
-- Returns: {1} created · {2} it exists already (a repeated call) · {3, mission} this one of the
--   thread is still open
-- Events: mission.created, task.queued
local id, title, spec, priority, not_before, labels, actor, max_attempts =
  ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
if redis.call('EXISTS', K.mission(id)) == 1 then return { 2 } end
local thread = ARGV[12]
if thread ~= '' then
  local other = redis.call('GET', K.thread(thread))
  local state = other and redis.call('HGET', K.mission(other), 'state')
  if state and allowed('mission', 'cancel', state) then return { 3, other } end
  redis.call('SET', K.thread(thread), id, 'PX', LIMIT.grace_ms)
end

local tasks = cjson.decode(ARGV[10])
redis.call('HSET', K.mission(id), 'state', 'queued', 'title', title, 'spec', spec,
  'created_at', now, 'open', #tasks, 'blocked', 0, 'failed', 0, 'paused', 0,
  'priority', priority, 'not_before', not_before, 'labels', labels, 'actor', actor,
  'thread', thread)
redis.call('ZADD', K.missions, now, id)
redis.call('ZADD', K.missions_by_state('queued'), now, id)
for _, label in ipairs(cjson.decode(labels)) do
  redis.call('ZADD', K.missions_by_label(redis.sha1hex(label)), now, id)
end
local facts = { title = title, state = 'queued', tasks = #tasks }
if tonumber(not_before) > now then facts.not_before_ms = tonumber(not_before) end
if ARGV[11] ~= '' then
  redis.call('HSET', K.callbacks, callback_of(id), ARGV[11])
  redis.call('HSET', K.mission(id), 'callback', callback_of(id))
  treat_endpoint(callback_of(id), 'webhook', 1, 0, 0, 0)
end
emit('mission.created', id, '', cjson.encode(facts))

local mission = { paused = '0', not_before = not_before }
for position, task in ipairs(tasks) do
  local fields = { 'mission', id, 'name', task.name, 'pool', task.pool, 'agent', task.agent,
    'priority', priority, 'instructions', task.instructions, 'depends_on', task.depends_on,
    'deps', task.deps, 'dependents', task.dependents, 'after', task.after, 'attempt', 0,
    'losses', 0, 'max_attempts', max_attempts }
  redis.call('ZADD', K.mission_tasks(id), position, task.id)
  redis.call('SADD', K.pools, task.pool)
  gauge('tasks:' .. task.pool .. ':pending', 1)
  if task.deps == 0 then
    make_ready(task.id, { mission = id, name = task.name, state = 'pending', pool = task.pool,
      priority = priority }, mission, 'task.queued', {}, unpack(fields))
  else
    redis.call('HSET', K.task(task.id), 'state', 'pending', 'deferred', '0', unpack(fields))
  end
end
return { 1 }
