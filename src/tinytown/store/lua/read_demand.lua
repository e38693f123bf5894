-- read_demand: what every pool's leases and counters say, in one step; cost grows with pools only.
-- flags: no-writes
-- KEYS: events
-- ARGV: now
-- Returns: {now, seq, {rows of demand_rows}, stamp}
-- Events: none
local rows = demand_rows()
return { now, tonumber(redis.call('HGET', K.gauges, 'seq') or 0), rows, stamp_of(rows) }
