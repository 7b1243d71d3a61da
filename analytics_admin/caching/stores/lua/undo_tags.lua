-- KEYS: tags. ARGV: 1 to take back their last soft clear, else they are only counted. Returns how many
-- have one that can be taken back.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local restored = 0
for i = 1, #KEYS do
  local raw = redis.pcall('GETRANGE', KEYS[i], 0, 64)
  local before, till = string.match(type(raw) == 'string' and raw or '', '^[%w_-]+ ([%w_-]+):(%d+)$')
  if before and #before == 12 and tonumber(till) > now then
    if ARGV[1] == '1' then redis.call('SET', KEYS[i], before, 'KEEPTTL') end
    restored = restored + 1
  end
end
return restored
