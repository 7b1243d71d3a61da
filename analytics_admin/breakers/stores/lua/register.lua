-- Registers names and retires unused ones. Needs record.lua and retirement.lua.
-- KEYS: index, hash of the breakers that are not closed.
-- ARGV: seconds for which an unused name is kept or "", most names, names.
local retired, refused = {}, {}
if oldest ~= '-inf' then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])) do
    if not is_held(name) then
      redis.call('ZREM', KEYS[1], name)
      redis.call('HDEL', KEYS[2], name)
      retired[#retired + 1] = name
    end
  end
end
local places = ARGV[2] - redis.call('ZCARD', KEYS[1])
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], second, ARGV[i])
  elseif places > 0 then
    redis.call('ZADD', KEYS[1], second, ARGV[i])
    places = places - 1
  else
    refused[#refused + 1] = ARGV[i]
  end
end
return {refused, retired}
