-- put_key: a key is made known by its digest.
-- KEYS: events
-- ARGV: now, key, digest, record (JSON)
-- Returns: {1}
-- Events: none

-- Made again under its id (its first reply was lost): the secret nobody has seen opens nothing.
local known = redis.call('HGET', K.keys, ARGV[2])
if known then redis.call('HDEL', K.keys_by_digest, cjson.decode(known).digest) end
redis.call('HSET', K.keys, ARGV[2], ARGV[4])
redis.call('HSET', K.keys_by_digest, ARGV[3], ARGV[2])
return { 1 }
