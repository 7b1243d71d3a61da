-- ARGV: the claim's lease, its epochs, fresh ms, kept ms, computed ms, value or nothing
local seen = redis.call('MGET', KEYS[1], KEYS[3], unpack(KEYS, 4))
local now = now_ms()
local accepted, tail = accepted_epochs(seen[1]), ''
for i = 4, #KEYS do tail = tail .. ',' .. (seen[i - 1] or '') end
local fence = string.match(ARGV[1], '^%S+')
local holds = accepted and is_accepted(ARGV[2], accepted, tail)
  and seen[2] and string.match(seen[2], '^%S+') == fence
-- The value first: after a first write, a server that is out of memory lets the others pass.
if holds and ARGV[6] then
  set(KEYS[2], head(ARGV[2], now, ARGV[3], ARGV[5]) .. ARGV[6], ARGV[4])
end
if holds or string.match(seen[2] or '', '^(%S+ %S+) ') == ARGV[1] then redis.call('DEL', KEYS[3]) end
return {holds and 1 or 0, now}
