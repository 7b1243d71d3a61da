-- Numbers what moves breakers, and tells all processes. Needs record.lua.
-- The first number is the clock's, in microseconds: a store that was emptied repeats none.
local function read_sequence(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value < 18 and string.find(value, '^%d+$') then return value end
  return '0'
end

-- Returns the number of this change. `moved` holds name, record and hold of each breaker; where that
-- is too much for a message, or is_gone, processes read the breakers themselves.
local function publish(key, channel, moved, is_gone)
  local number = redis.pcall('INCR', key)
  if type(number) ~= 'number' or number <= 1 then
    number = second * 1e6 + tonumber(time[2])
    redis.call('SET', key, string.format('%.0f', number))
  end
  local sequence = string.format('%.0f', number)
  local message = not is_gone and cjson.encode({sequence, now, moved})
  if not message or #message > MAX_PUBLISHED_BYTES then
    local names = {}
    for i, breaker in ipairs(moved) do names[i] = {breaker[1]} end
    message = cjson.encode({sequence, now, names})
  end
  redis.pcall('PUBLISH', channel, message) -- a user may lack the right to
  return sequence
end
