-- ask_question: a running task asks a person and is blocked until somebody answers.
-- KEYS: events
-- ARGV: now, question, task, attempt, digest, deadline_ms (0 = none), kind, text, options (JSON),
--   free_text, has_default, default, context, risk
-- Returns: {1, question} asked · {2, question} already open (this attempt waits for it now) ·
--   {3, question} it ended for an earlier attempt (take it) · {-2} lease lost · {-1} unknown
-- Events: question.asked, mission.blocked
local id, task_id, attempt, digest, deadline_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local task = task_of(task_id)
if task.state == '' then return { -1 } end
if not lease_is(task, attempt) then return { -2 } end

local function block(question_id)
  redis.call('HSET', K.question(question_id), 'attempt', attempt)
  redis.call('HINCRBY', K.task(task_id), 'questions', 1)
  if task.state == 'blocked' then return end
  task_to(task_id, task, 'blocked')
  local mission = mission_of(task.mission)
  bump(mission, 'blocked', 1)
  follow_tasks(task.mission, mission, {})
end

if redis.call('EXISTS', K.question(id)) == 1 then return { 2, id } end
local earlier = redis.call('HGET', K.task_asked(task_id), digest)
if earlier then
  local known = some(K.question(earlier), 'state', 'attempt', 'kind', 'taken')
  if known.state == 'open' then
    if known.attempt ~= attempt then block(earlier) end
    return { 2, earlier }
  end
  -- It ended while no attempt was there to hear it (lost or parked): do not ask again. An approval
  -- is spent once, and silence is told once: what reached its agent is asked anew.
  local spent = known.taken == '1' and (known.kind == 'approval' or known.state == 'expired')
  local ended = known.state == 'answered' or known.state == 'expired'
  if known.attempt ~= attempt and ended and not spent then
    redis.call('HSET', K.question(earlier), 'attempt', attempt)
    return { 3, earlier }
  end
end

local expires = deadline_ms > 0 and now + deadline_ms or 0
local title = redis.call('HGET', K.mission(task.mission), 'title')
redis.call('HSET', K.question(id), 'mission', task.mission, 'task', task_id, 'digest', digest,
  'kind', ARGV[7], 'text', ARGV[8], 'options', ARGV[9], 'free_text', ARGV[10],
  'has_default', ARGV[11], 'default', ARGV[12], 'context', ARGV[13], 'risk', ARGV[14],
  'asked_at', now, 'expires_at', expires, 'state', 'open', 'title', title)
redis.call('HSET', K.task_asked(task_id), digest, id)
note_key(task.mission, {}, 'has_asked')
redis.call('ZADD', K.mission_questions(task.mission), now, id)
redis.call('ZADD', K.questions_open, now, id)
if expires > 0 then redis.call('ZADD', K.timers, expires, 'question:' .. id) end
local facts = { question_id = id, kind = ARGV[7], text = ARGV[8], context = ARGV[13],
  risk = ARGV[14], title = title, free_text = ARGV[10] == '1' }
if ARGV[9] ~= '[]' then facts.options = cjson.decode(ARGV[9]) end
if ARGV[11] == '1' then facts.default = ARGV[12] end
if expires > 0 then facts.expires_at_ms = expires end
emit('question.asked', task.mission, task_id, cjson.encode(facts))
block(id)
return { 1, id }
