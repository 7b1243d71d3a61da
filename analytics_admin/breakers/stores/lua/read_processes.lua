-- Reads the processes, without what is too large to be one. Needs record.lua and
-- publish.lua.
-- KEYS: processes, sequence.
local answer = {}
if (attempt('HLEN', KEYS[1]) or 0) <= 2 * MAX_PROCESSES then
  local stored = attempt('HGETALL', KEYS[1]) or {}
  for i = 1, #stored, 2 do
    if #stored[i] <= MAX_PROCESS_BYTES and #stored[i + 1] <= MAX_PROCESS_BYTES then
      answer[#answer + 1], answer[#answer + 2] = stored[i], stored[i + 1]
    end
  end
end
return {now, read_sequence(KEYS[2]), answer}
