-- write_audit: somebody with a key did something, or was not allowed to.
-- KEYS: events
-- ARGV: now, actor, verb, object, result, reason, request
-- Returns: {1}
-- Events: none
audit(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return { 1 }
