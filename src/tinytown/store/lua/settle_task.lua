-- settle_task: the holder of the lease ends its task, completed or failed; what waited for it moves.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, task, attempt, outcome (completed|failed), summary, reason, result (JSON), patch,
--   bundle, input_tokens, output_tokens, cost_micros
-- Returns: {1, mission state} done, also when repeated by the same attempt ·
--   {-2} the lease is not its own any more · {-1} unknown task
-- Events: task.completed|task.failed, task.queued, question.withdrawn, mission.completed|failed
local id, attempt, outcome, summary, reason, result, patch, bundle =
  ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local task = task_of(id)
if task.state == '' then return { -1 } end
local mission = mission_of(task.mission)
if task.attempt == attempt and task.state == outcome then return { 1, mission.state } end
if not lease_is(task, attempt) then return { -2 } end

local worker = task.worker
local busy_ms = now - tonumber(task.claimed_at)
local dropped = end_task(id, task, mission, outcome, 'summary', summary, 'reason', reason,
  'result', result)
if patch ~= '' or bundle ~= '' then note_key(task.mission, mission, 'has_work') end
if patch ~= '' then redis.call('SET', K.task_patch(id), patch) end
if bundle ~= '' then redis.call('SET', K.task_bundle(id), bundle) end
count('tokens:input', ARGV[10])
count('tokens:output', ARGV[11])
count('cost_micros', ARGV[12])

local facts = { name = task.name, worker = worker, attempt = tonumber(attempt), summary = summary,
  duration_seconds = busy_ms / 1000 }
if outcome == 'failed' then
  facts.reason = reason
  if #dropped > 0 then facts.canceled = dropped end
  redis.call('HSET', K.mission(task.mission), 'reason', reason)
end
emit('task.' .. outcome, task.mission, id, cjson.encode(facts))

if outcome == 'completed' then
  for dependent in string.gmatch(task.dependents, '%S+') do
    local left = redis.call('HINCRBY', K.task(dependent), 'deps', -1)
    local other = task_of(dependent)
    if left == 0 and other.state == 'pending' then
      make_ready(dependent, other, mission, 'task.queued', {})
    end
  end
end
local told = { summary = summary }
if result ~= '' then told.result = cjson.decode(result) end
if outcome == 'failed' then told.reason = reason end
follow_tasks(task.mission, mission, told)
return { 1, mission.state }
