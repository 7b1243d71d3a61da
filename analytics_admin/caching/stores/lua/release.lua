-- KEYS: the lease. ARGV: whose lease it must be
local lease = redis.call('GET', KEYS[1])
if string.match(lease or '', '^(%S+ %S+) ') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {1, 0}
