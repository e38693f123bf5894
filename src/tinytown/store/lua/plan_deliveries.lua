-- plan_deliveries: one event is acknowledged and one delivery filed per endpoint that wants it.
-- KEYS: events
-- ARGV: now, stream_id, version, type, at, mission, task, data (JSON), question ('' unless
--   question.asked), endpoints…
-- Returns: {1, filed} · {0, version} the endpoints changed meanwhile: match again
-- Events: delivery.dead, when an endpoint is too far behind (else its story is told when it dies)
local event = { id = ARGV[2], type = ARGV[4], at = ARGV[5], mission = ARGV[6], task = ARGV[7],
  data = ARGV[8], question = ARGV[9] }
local present = redis.call('HGET', K.endpoints, 'version') or '0'
if present ~= ARGV[3] then return { 0, present } end
local filed = 0
for i = 10, #ARGV do
  if file_delivery(event, ARGV[i]) then filed = filed + 1 end
end
if callback_wants(event) and file_delivery(event, callback_of(event.mission)) then
  filed = filed + 1
end
if filed > 0 then redis.call('SET', K.planned, event.id) end
redis.call('XACK', K.events, 'notifiers', event.id)
return { 1, filed }
