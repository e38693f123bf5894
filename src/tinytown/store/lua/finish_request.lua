-- finish_request: the reply to an Idempotency-Key is kept, or the key freed after a refusal.
-- flags: allow-oom
-- KEYS: events
-- ARGV: now, actor, key, reply (JSON; '' frees the key, '-' lets the next try go on with its id)
-- Returns: {1}
-- Events: none
local key = K.idempotency(ARGV[2], ARGV[3])
if ARGV[4] == '' then
  redis.call('DEL', key)
  return { 1 }
end
local known = redis.call('GET', key)
if known then
  local record = cjson.decode(known)
  if ARGV[4] == '-' then record.at = 0 else record.reply = ARGV[4] end
  redis.call('SET', key, cjson.encode(record), 'KEEPTTL')
end
return { 1 }
