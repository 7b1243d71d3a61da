-- Reads what breakers add up to. Needs record.lua.
-- KEYS: per breaker: record, totals.
-- Answers generation, calls, failures and slow calls of each record, or "" where there is no sound one;
-- then both fields of the totals.
local answer = {}
for i = 1, #KEYS, 2 do
  local record = redis.pcall('HGET', KEYS[i], 'record')
  local it = type(record) == 'string' and #record <= MAX_RECORD_BYTES and decode(record)
  local totals = it and attempt('HMGET', KEYS[i + 1], 'before', 'rejected') or {false, false}
  answer[#answer + 1] = {it and string.format('%s %d %d %d', it.g, it.c, it.f, it.o) or '',
    totals[1], totals[2]}
end
return answer
