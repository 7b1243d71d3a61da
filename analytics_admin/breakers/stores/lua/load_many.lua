-- Reads records. Needs record.lua and activity.lua.
-- KEYS: records. ARGV: of how many of them, the first ones, the activity is read too.
local answer = {now}
for i, key in ipairs(KEYS) do
  answer[i + 1] = {read(key), i <= tonumber(ARGV[1]) and activity(key)}
end
return answer
