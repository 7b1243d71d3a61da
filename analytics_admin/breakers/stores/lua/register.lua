-- Registers names and retires unused ones. Needs record.lua.
-- KEYS: index, hash of the breakers that are not closed.
-- ARGV: seconds for which an unused name is kept, or ""; most names; names.
local HOLDS = {forced_open = true, disabled = true, metrics_only = true}
local function is_held(name)
  local entry = attempt('HGET', KEYS[2], name) or ''
  local control, ends = string.match(entry, '^([^ ]*) ?(.*)$')
  return HOLDS[control] ~= nil and (ends == '' or (tonumber(ends) or 0) > tonumber(now))
end

local retired, refused = {}, {}
local size = attempt('ZCARD', KEYS[1])
if not size then return {refused, retired} end -- of another type: a reset of all makes it anew
if ARGV[1] ~= '' then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])) do
    if not is_held(name) then
      redis.call('ZREM', KEYS[1], name)
      attempt('HDEL', KEYS[2], name)
      retired[#retired + 1] = name
      size = size - 1
    end
  end
end
for i = 3, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], second, ARGV[i])
  elseif size < tonumber(ARGV[2]) then
    redis.call('ZADD', KEYS[1], second, ARGV[i])
    size = size + 1
  else
    refused[#refused + 1] = ARGV[i]
  end
end
return {refused, retired}
