-- open_hooks: a router begins with hooks; their tries are counted here, so that one which ends its
-- townhall is not tried for ever.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, entries… (stream id, then hook)
-- Returns: {{hook, {fields}, source (JSON or '')}, …} without those that wait no more: their
--   entries are gone
-- Events: none
local opened = {}
for i = 2, #ARGV, 2 do
  local entry, hook = ARGV[i], ARGV[i + 1]
  local key = K.hook(hook)
  if redis.call('HGET', key, 'state') == 'stored' then
    redis.call('HINCRBY', key, 'tries', 1)
    local source = redis.call('HGET', K.sources, redis.call('HGET', key, 'source')) or ''
    opened[#opened + 1] = { hook, redis.call('HGETALL', key), source }
  else
    forget_entry(entry)
  end
end
return opened
