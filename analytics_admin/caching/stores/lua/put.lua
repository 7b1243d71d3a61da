-- ARGV: new record, tags' ttl ms, fresh ms, kept ms, value, new tag epochs...
local seen = redis.call('MGET', KEYS[1], KEYS[3], KEYS[3], unpack(KEYS, 4))
local accepted, tail = ensure_epochs(seen, ARGV[1], '', ARGV[2], {unpack(ARGV, 6)})
local now = now_ms()
set(KEYS[2], head(accepted[1] .. tail, now, ARGV[3], '0') .. ARGV[5], ARGV[4])
redis.call('DEL', KEYS[3])
return {1, now}
