-- put_source: a source is added, or changed where it is still as the caller saw it.
-- KEYS: events
-- ARGV: now, source, record (JSON), expected (SHA-1 of the record it replaces; '' to add one)
-- Returns: {1, version} · {0, digest} it is another by now · {-1} unknown source ·
--   {-3} too many sources
-- Events: none
local id, expected = ARGV[2], ARGV[4]
local known = redis.call('HGET', K.sources, id)
if expected ~= '' then
  if not known then return { -1 } end
  local digest = redis.sha1hex(known)
  if digest ~= expected then return { 0, digest } end
elseif not known and redis.call('HLEN', K.sources) > LIMIT.sources then
  return { -3 }
end
redis.call('HSET', K.sources, id, ARGV[3])
return { 1, next_version() }
