-- KEYS: tags. ARGV: milliseconds for which their values may be served from now on, then a new epoch for
-- each. Returns how many of the tags existed. A tag keeps the first characters of its epoch: its era.
local now = redis.call('TIME')
local till = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[1]
local changed = 0
for i = 1, #KEYS do
  local raw = redis.pcall('GETRANGE', KEYS[i], 0, 64)
  local epoch = type(raw) == 'string' and string.match(raw, '^[%w_-]+')
  if epoch and #epoch == 12 then
    local new = epoch:sub(1, 4) .. ARGV[i + 1]:sub(5)
    redis.call('SET', KEYS[i], new .. ' ' .. epoch .. ':' .. string.format('%.0f', till), 'KEEPTTL')
    changed = changed + 1
  end
end
return changed
