-- ARGV: new record, tags' ttl ms, fresh ms, kept ms, value, its checksum, the latest time, new tag epochs...
-- A request that was held up on its way comes to nothing: its caller has gone on without it.
local now = now_ms()
if tonumber(ARGV[7]) > 0 and now > tonumber(ARGV[7]) then return {0, now} end
local accepted, tail = ensure_epochs(ARGV[1], '', ARGV[2], {unpack(ARGV, 8)})
set(KEYS[2], head(accepted[1] .. tail, now, ARGV[3], '0', ARGV[6]) .. ARGV[5], ARGV[4])
redis.call('DEL', KEYS[3])
return {1, now}
