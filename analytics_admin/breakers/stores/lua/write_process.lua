-- Writes down that a process is there, and drops those that are gone. Needs record.lua, publish.lua and
-- server.lua.
-- KEYS: processes, sequence, the server whose data were compared with the audit trail.
-- ARGV: the process' id, since when it is known (0: from now on), the newest move that it has read,
-- "1" if it gets moves pushed, in how many milliseconds it is answered, and who it is as JSON.
local slowest = tonumber(ARGV[5])
local is_new_server = 0

-- Asks one process at a time to compare, until one has, and now and then for a while afterwards: an old
-- primary may have taken an operation that it then lost. A server that no process has used for a while
-- may be an old primary that is used again.
local function look_at_server(was_left)
  local here = server()
  if here == '' then return end
  local compared, since, asked, asked_at = read_compared(KEYS[3])
  if was_left then compared, asked = '-', '-' end
  if compared == here and second - since >= WATCH_SECONDS then return end
  if asked == here and math.abs(second - asked_at) < COMPARE_SECONDS then return end
  redis.call('SET', KEYS[3], string.format('%s %d %s %d', compared, since, here, second))
  is_new_server = 1
end

local function sweep()
  local swept, told = string.match(replace('HGET', KEYS[1], 'swept') or '', '^(%d+%.%d+) (%d+)$')
  if swept and math.abs(now - swept) < PRESENT_SECONDS then
    if slowest > tonumber(told) then
      redis.call('HSET', KEYS[1], 'swept', swept .. ' ' .. ARGV[5])
    end
    return
  end
  local was_left = not swept or now - swept > 2 * PRESENT_SECONDS
  if redis.call('HLEN', KEYS[1]) > MAX_PROCESSES then
    redis.call('UNLINK', KEYS[1])
  else
    local stored = redis.call('HGETALL', KEYS[1])
    for i = 1, #stored, 2 do
      local entry = stored[i + 1]
      local seen_at = tonumber(string.match(entry, '^%d+%.%d+') or '')
      if #entry > MAX_PROCESS_BYTES or not seen_at or math.abs(now - seen_at) >= GONE_SECONDS then
        redis.call('HDEL', KEYS[1], stored[i])
      elseif stored[i] ~= ARGV[1] then
        local answered_in = string.match(entry, '^%S+ %S+ %S+ %S+ (%d%d?%d?%d?) ')
        slowest = math.max(slowest, tonumber(answered_in or '0'))
      end
    end
  end
  redis.call('HSET', KEYS[1], 'swept', string.format('%s %d', now, slowest))
  look_at_server(was_left)
end

local function write()
  local since = ARGV[2] == '0' and now or ARGV[2]
  local entry = table.concat({now, since, ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, ' ')
  sweep()
  redis.call('HSET', KEYS[1], ARGV[1], entry)
  redis.call('EXPIRE', KEYS[1], 4 * GONE_SECONDS)
end

-- A server that has no room still answers questions: the process is not counted, and that is all.
local is_done, answer = pcall(write)
if not is_done then
  local text = type(answer) == 'table' and answer.err or tostring(answer)
  if not string.find(text, 'OOM', 1, true) and not string.find(text, 'MISCONF', 1, true) then
    error(answer, 0)
  end
end
return {now, read_sequence(KEYS[2]), is_new_server}
