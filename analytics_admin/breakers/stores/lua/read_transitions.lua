-- Reads records and their transitions. Needs record.lua and history.lua.
-- KEYS: per breaker: record, moves.
local answer = {now}
for i = 1, #KEYS, 2 do
  local row = read(KEYS[i])
  row[3] = rows(KEYS[i + 1], LAST_TRANSITION)
  answer[#answer + 1] = row
end
return answer
