-- answer_question: the first answer wins and the task that waits goes on.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, question, answer, by, via
-- Returns: {1} this answer counts · {2} the same answer was given before ·
--   {0, state, answer, by, via, at} it ended otherwise · {-1} unknown question
-- Events: question.answered, mission.unblocked
local id, answer = ARGV[2], ARGV[3]
local question = question_of(id)
if question.state == '' then return { -1 } end
if not allowed('question', 'answer', question.state) then
  if question.state == 'answered' and question.answer == answer then return { 2 } end
  return { 0, question.state, question.answer, question.answered_by, question.answered_via,
    question.answered_at }
end
resolve_question(id, question, 'answered', 'answered', answer, ARGV[4], ARGV[5])
return { 1 }
