-- Reads records and their transitions. Needs record.lua.
-- KEYS: records.
local answer = {now}
for i, key in ipairs(KEYS) do
  local moves = redis.pcall('LRANGE', key .. ':moves', 0, -1)
  answer[i + 1] = {read(key), moves.err and {} or moves}
end
return answer
