-- KEYS: the lease. ARGV: whose lease it must be
local lease = redis.pcall('GETRANGE', KEYS[1], 0, 2047)
lease = type(lease) == 'string' and lease or ''
if string.match(lease, '^(%S+ %S+) ') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
