"""The Redis store's scripts over the index of names: which are in use, which go.

The index is a sorted set of names by when they were last used; beside it lies the hash of breakers
that are not simply closed, which ``scripts`` keeps.
"""

from analytics_admin.breakers.stores.redis_scripts import NOW

# The first argument: seconds for which an unused name is kept, or "" for ever.
RETIRED = """
local HOLDS = {forced_open = true, disabled = true, metrics_only = true}
local function is_held(name)
  local label = redis.call('HGET', KEYS[2], name) or ''
  local control, ends = string.match(label, '^([^ ]*) ?(.*)$')
  return HOLDS[control] ~= nil and (ends == '' or (tonumber(ends) or 0) > tonumber(now))
end
local oldest = ARGV[1] == '' and '-inf' or '(' .. string.format('%d', now - ARGV[1])
"""

# Keys: index, those astir. Seconds for which an unused name is kept or "", most names, names.
REGISTER = f"""{NOW}{RETIRED}
local retired, refused = {{}}, {{}}
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
return {{refused, retired}}
"""

# Keys: index, those astir, the breaker's record, its other keys. Name, expected generation.
FORGET = """
local generation = redis.pcall('HGET', KEYS[3], 'g')
if type(generation) == 'table' then generation = '' end
if (generation or '') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', unpack(KEYS, 3))
return 1
"""
