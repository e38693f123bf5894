-- read_demand: what every pool's leases and counters say, in one step; cost grows with pools only.
-- flags: no-writes
-- KEYS: events
-- ARGV: now
-- Returns: {now, seq, {rows of demand_rows}, stamp}
-- Events: none
local rows = demand_rows()
-- How many events there ever were; a stream that is not there yet has none.
local seq, stream = 0, redis.pcall('XINFO', 'STREAM', K.events)
for i = 1, #stream, 2 do
  if stream[i] == 'entries-added' then seq = stream[i + 1] end
end
return { now, seq, rows, stamp_of(rows) }
