-- Reads what breakers add up to. Needs record.lua and totals.lua.
-- KEYS: per breaker: record, totals.
-- Answers calls, failures, slow calls, rejected calls, and the transitions of each, or "" where there is
-- no sound record.
local answer = {}
for i = 1, #KEYS, 2 do
  local record = redis.pcall('HGET', KEYS[i], 'record')
  local it = type(record) == 'string' and #record <= MAX_RECORD_BYTES and decode(record)
  if it then
    local totals, rejected = read_totals(KEYS[i + 1], it.g)
    answer[#answer + 1] = string.format('%d %d %d %d %d %d %d %d', totals[1] + it.c, totals[2] + it.f,
      totals[3] + it.o, rejected, totals[4], totals[5], totals[6], totals[7])
  else
    answer[#answer + 1] = ''
  end
end
return answer
