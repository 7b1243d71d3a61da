-- KEYS: the lease. ARGV: whose lease it must be, lease ms, lease's ttl ms
local lease = redis.pcall('GETRANGE', KEYS[1], 0, 2047)
lease = type(lease) == 'string' and lease or ''
local holder, epochs = string.match(lease, '^(%S+ %S+) %d+ (%S+)$')
if holder ~= ARGV[1] then return 0 end
local now = redis.call('TIME')
local deadline = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
lease = holder .. ' ' .. string.format('%.0f', deadline) .. ' ' .. epochs
redis.call('SET', KEYS[1], lease, 'PX', ARGV[3])
return 1
