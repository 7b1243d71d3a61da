-- ARGV: the claim's lease, its epochs, fresh ms, kept ms, computed ms, then the value and its checksum, or
-- nothing
local now = now_ms()
local accepted, era = accepted_epochs(read(KEYS[1], 65536))
local tail = ''
for i = 4, #KEYS do tail = tail .. ',' .. (tag_epoch(KEYS[i], era or '') or '') end
local lease = string.match(read(KEYS[3], 2048) or '', '^(%S+ %S+) ')
local fence = string.match(ARGV[1], '^%S+')
local holds = accepted and is_accepted(ARGV[2], accepted, tail)
  and lease and string.match(lease, '^%S+') == fence
-- The value first: after a first write, a server that is out of memory lets the others pass.
if holds and ARGV[6] then
  set(KEYS[2], head(ARGV[2], now, ARGV[3], ARGV[5], ARGV[7]) .. ARGV[6], ARGV[4])
end
if holds or lease == ARGV[1] then redis.call('DEL', KEYS[3]) end
return {holds and 1 or 0, now}
