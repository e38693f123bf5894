-- reject_hook: a hook was refused; the audit says why, up to a bound a minute.
-- KEYS: events
-- ARGV: now, source ('' for none we know), version (of the sources it was refused by), reason,
--   request
-- Returns: {1, refused} how many within this minute · {0, version} the sources changed meanwhile:
--   look again
-- Events: source.rejected (at most once a minute per source)
local source, version = ARGV[2], ARGV[3]
local present = redis.call('HGET', K.sources, 'version') or '0'
if present ~= version then return { 0, present } end
count('hooks:rejected')
local key = K.source_rejected(source == '' and 'unknown' or source)
local refused = redis.call('INCR', key)
if refused == 1 then
  redis.call('PEXPIRE', key, 60000)
  if source ~= '' then emit('source.rejected', '', '', cjson.encode({ source = source })) end
end
if refused <= LIMIT.rejections then
  audit('', 'receive_hook', source, 'rejected', ARGV[4], ARGV[5])
end
return { 1, refused }
