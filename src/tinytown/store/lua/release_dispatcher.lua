-- release_dispatcher: a townhall that stops lets the next one tick at once.
-- KEYS: events
-- ARGV: now, holder
-- Returns: {1} · {0, holder} somebody else holds it
-- Events: none
local holder = redis.call('GET', K.dispatcher)
if holder ~= ARGV[2] then return { 0, holder or '' } end
redis.call('DEL', K.dispatcher)
return { 1 }
