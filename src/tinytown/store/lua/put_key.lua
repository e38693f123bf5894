-- put_key: a key is made known by its digest.
-- KEYS: events
-- ARGV: now, key, digest, record (JSON)
-- Returns: {1}
-- Events: none
redis.call('HSET', K.keys, ARGV[2], ARGV[4])
redis.call('HSET', K.keys_by_digest, ARGV[3], ARGV[2])
return { 1 }
