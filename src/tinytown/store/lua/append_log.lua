-- append_log: the holder of the lease adds lines to its mission's log, once each.
-- KEYS: events
-- ARGV: now, task, attempt, first (number of the first line in this attempt), lines…
-- Returns: {1, next} the number of the next line · {-2} lease lost · {-1} unknown task
-- Events: none (the log is its own stream)
local id, attempt, first = ARGV[2], ARGV[3], tonumber(ARGV[4])
local task = some(K.task(id), 'mission', 'state', 'attempt', 'logged', 'parked')
if task.state == '' then return { -1 } end
if not lease_is(task, attempt) then return { -2 } end
-- `logged` is "<attempt>:<next line>": a repeated call adds nothing twice.
local logged_attempt, logged = string.match(task.logged, '^(%d+):(%d+)$')
local next_line = logged_attempt == attempt and tonumber(logged) or 0
local log = K.mission_log(task.mission)
if next_line == 0 then note_key(task.mission, {}, 'has_log') end
for i = 5, #ARGV do
  local number = first + i - 5
  if number >= next_line then
    redis.call('XADD', log, 'MAXLEN', '~', LIMIT.log, '*', 'task', id, 'attempt', attempt,
      'at', now, 'line', ARGV[i])
    next_line = number + 1
  end
end
redis.call('HSET', K.task(id), 'logged', attempt .. ':' .. next_line)
return { 1, next_line }
