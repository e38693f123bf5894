-- register_worker: a worker says that it is there (again after the store forgot it or gave it up).
-- KEYS: events
-- ARGV: now, worker, silence_ms, boot_ms, card (JSON of host, version, agent), pools…
-- Returns: {1, state}
-- Events: worker.started
local id = ARGV[2]
local worker = worker_of(id)
local again = worker.state ~= '' and worker.state ~= 'lost' and worker.state ~= 'stopped'
redis.call('ZADD', K.timers, now + tonumber(ARGV[3]), 'worker:' .. id)
redis.call('ZREM', K.timers, 'gone:' .. id)
redis.call('ZADD', K.workers, now, id)
if again then return { 1, worker.state } end

-- It is counted in the pool it was started for: a worker of several would be missed there.
local pools = {}
for i = 6, #ARGV do
  pools[#pools + 1] = ARGV[i]
  redis.call('SADD', K.pools, ARGV[i])
end
local pool, boot_ms = redeem_promise(pools)
pool, boot_ms = pool or pools[1], math.max(boot_ms or 0, tonumber(ARGV[4]))
if worker.state ~= '' then gauge('workers:' .. worker.pool .. ':' .. worker.state, -1) end
redis.call('HSET', K.worker(id), 'state', 'starting', 'pool', pool,
  'pools', table.concat(pools, ' '), 'card', ARGV[5], 'started_at', now, 'since', now,
  'task', '', 'rested', '', 'stopped_at', '')
redis.call('EXPIRE', K.worker(id), LIMIT.worker_ttl)
count('agent_ms:boot', boot_ms)
gauge('workers:' .. pool .. ':starting', 1)
emit('worker.started', '', '', cjson.encode({ worker = id, pools = pools,
  silence_ms = tonumber(ARGV[3]) }))
return { 1, 'starting' }
