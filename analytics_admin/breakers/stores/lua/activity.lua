-- Reads a breaker's last transition and its calls of the last five minutes.
-- A key of another type yields no activity, so that the list can still be read.
local function activity(key)
  local move = redis.pcall('LINDEX', key .. ':moves', 0)
  local history = redis.pcall('HGETALL', key .. ':history')
  return {type(move) == 'string' and move or '', history.err and '' or table.concat(history, ' ')}
end
