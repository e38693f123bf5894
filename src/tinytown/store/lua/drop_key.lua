-- drop_key: a key is revoked; from now on it opens nothing.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, key, digest
-- Returns: {1} · {-1} unknown key
-- Events: none
if redis.call('HDEL', K.keys, ARGV[2]) == 0 then return { -1 } end
redis.call('HDEL', K.keys_by_digest, ARGV[3])
return { 1 }
