-- take_answer: the worker that asked fetches the outcome for its agent; an approval is spent by it.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, question, task, attempt
-- Returns: {1, state, outcome, answer, by, via} ended · {0, "open"} nobody answered yet ·
--   {-2} lease lost · {-1} this task asked no such question
-- Events: none (the move was told when it was answered)
local id = ARGV[2]
local question = some(K.question(id), 'task', 'state', 'outcome', 'answer', 'answered_by',
  'answered_via')
if question.task ~= ARGV[3] then return { -1 } end
if not lease_is(task_of(ARGV[3]), ARGV[4]) then return { -2 } end
if question.state == 'open' then return { 0, 'open' } end
redis.call('HSET', K.question(id), 'taken', '1')
return { 1, question.state, question.outcome, question.answer, question.answered_by,
  question.answered_via }
