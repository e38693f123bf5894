-- take_hook: a proved hook is stored and queued for its rule, unless its delivery was seen before.
-- KEYS: events
-- ARGV: now, hook, source, version (of the sources it was proved by), delivery (digest), keep_ms,
--   kind, headers (JSON), payload (JSON), sent_at (ms, 0 for unknown)
-- Returns: {1, hook} stored · {2, hook} seen before, under this id · {0, version} the sources
--   changed meanwhile: prove it again · {-3} too much waits already
-- Events: none (what its rule does is told)
local hook, source, version, delivery, keep_ms = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local present = redis.call('HGET', K.sources, 'version') or '0'
if present ~= version then return { 0, present } end
local seen = K.source_seen(source, delivery)
local first = redis.call('GET', seen)
if first == hook then return { 1, hook } end
if first then
  count('hooks:duplicate')
  return { 2, first }
end
local size = #ARGV[9]
if not room_for_hook(size) then
  count('hooks:refused')
  return { -3 }
end
redis.call('SET', seen, hook, 'PX', keep_ms)
redis.call('HSET', K.hook(hook), 'source', source, 'state', 'stored', 'received_at', now,
  'sent_at', ARGV[10], 'kind', ARGV[7], 'headers', ARGV[8], 'payload', ARGV[9], 'size', size,
  'tries', 0)
queue_hook(hook, source, size)
count('hooks:stored')
return { 1, hook }
