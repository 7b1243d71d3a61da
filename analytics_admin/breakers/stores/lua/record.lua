-- Reads a breaker's record, whose fields redis_scripts lists, and the server's clock.
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = string.format('%d.%06d', time[1], time[2])
-- Something else under the key reads as a row of zeros, which no record has. The rest of a hold is
-- fetched where there is one: behind the places of the window's counts.
local function read(key)
  local row = redis.pcall('HMGET', key, 'g', 's', 'e', 'w', 'a', 'p', 'r', 'l', 'c', 'f', 'o', 'k')
  if row.err then return {'', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ''} end
  if row[12] then
    local hold = redis.call('HMGET', key, 'u', 'x', 'z')
    row[13], row[14], row[15], row[16], row[17], row[18] = 0, 0, 0, hold[1], hold[2], hold[3]
  end
  return row
end
