-- begin_request: an Idempotency-Key is seen: for the first time, again, or while it is running.
-- KEYS: events
-- ARGV: now, actor, key, body digest, reserved id, ttl_ms, stale_ms
-- Returns: {1, id} go on, with this id for what is created (the first one's, if it died on the way) ·
--   {2, reply (JSON)} it was done · {3} still running · {4} the key was used for another body
-- Events: none
local key = K.idempotency(ARGV[2], ARGV[3])
local known = redis.call('GET', key)
if known then
  local record = cjson.decode(known)
  if record.digest ~= ARGV[4] then return { 4 } end
  if record.reply then return { 2, record.reply } end
  -- The same request again: only its reply was lost.
  if record.id == ARGV[5] then return { 1, record.id } end
  if now - record.at < tonumber(ARGV[7]) then return { 3 } end
  record.at = now
  redis.call('SET', key, cjson.encode(record), 'KEEPTTL')
  return { 1, record.id }
end
redis.call('SET', key, cjson.encode({ digest = ARGV[4], id = ARGV[5], at = now }), 'PX', ARGV[6])
return { 1, ARGV[5] }
