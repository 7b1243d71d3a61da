-- KEYS: the lease. ARGV: the claim's lease
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return {1, 0}
