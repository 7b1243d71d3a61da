"""What the Redis store's scripts know of windows: functions that count calls and sum them up.

``<record>:time:<seconds>`` is a hash of g generation and ``<second>c``, ``<second>f``,
``<second>o``. ``<record>:count:<calls>`` is a hash of g, c, f, o; its calls in their order are
the list ``<record>:count:<calls>:runs`` of "calls failures slow".
"""

# For a script that knows the ``second`` it is. A cell: second, calls, failures, slow calls.
WINDOWS = """
local function add_timed(key, size, cells)
  for _, cell in ipairs(cells) do
    if cell[1] > second - size and cell[1] <= second then
      redis.call('HINCRBY', key, cell[1] .. 'c', cell[2])
      if cell[3] > 0 then redis.call('HINCRBY', key, cell[1] .. 'f', cell[3]) end
      if cell[4] > 0 then redis.call('HINCRBY', key, cell[1] .. 'o', cell[4]) end
    end
  end
  redis.call('EXPIRE', key, size * 2 + 60)
end

local function read_timed(key, size)
  local sums = {c = 0, f = 0, o = 0}
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local at, kind = string.match(fields[i], '^(%d+)([cfo])$')
    if at then
      if tonumber(at) <= second - size then
        redis.call('HDEL', key, fields[i])
      elseif tonumber(at) <= second then
        sums[kind] = sums[kind] + tonumber(fields[i + 1])
      end
    end
  end
  return sums.c, sums.f, sums.o
end

local function append(runs, calls, failures, slow)
  local last = redis.call('LINDEX', runs, -1)
  local before = failures == 0 and slow == 0 and last and string.match(last, '^(%d+) 0 0$')
  if before then
    redis.call('LSET', runs, -1, (before + calls) .. ' 0 0')
  else
    redis.call('RPUSH', runs, calls .. ' ' .. failures .. ' ' .. slow)
  end
end

local function cut(runs, over)
  local failed, slowed = 0, 0
  while over > 0 do
    local calls, failures, slow = string.match(redis.call('LPOP', runs), '(%d+) (%d+) (%d+)')
    calls, failures, slow = tonumber(calls), tonumber(failures), tonumber(slow)
    local gone = math.min(calls, over)
    local left = calls - gone
    if failures > 0 then failed = failed + gone end
    if slow > 0 then slowed = slowed + gone end
    if left > 0 then
      redis.call('LPUSH', runs,
        left .. ' ' .. (failures > 0 and left or 0) .. ' ' .. (slow > 0 and left or 0))
    end
    over = over - gone
  end
  return failed, slowed
end

local function add_counted(key, size, cells)
  local sums = redis.call('HMGET', key, 'c', 'f', 'o')
  local c, f, o = tonumber(sums[1] or 0), tonumber(sums[2] or 0), tonumber(sums[3] or 0)
  local runs = key .. ':runs'
  for _, cell in ipairs(cells) do
    append(runs, cell[2], cell[3], cell[4])
    c, f, o = c + cell[2], f + cell[3], o + cell[4]
  end
  local failed, slowed = cut(runs, c - size)
  redis.call('HSET', key, 'c', math.min(c, size), 'f', f - failed, 'o', o - slowed)
  redis.call('EXPIRE', key, 86400)
  redis.call('EXPIRE', runs, 86400)
end

local function window_counts(key, kind, size, generation, cells)
  if redis.call('HGET', key, 'g') ~= generation then
    redis.call('DEL', key, key .. ':runs')
    if #cells == 0 then return 0, 0, 0 end
    redis.call('HSET', key, 'g', generation)
  end
  if kind == 'time' then
    if #cells > 0 then add_timed(key, size, cells) end
    return read_timed(key, size)
  end
  if #cells > 0 then add_counted(key, size, cells) end
  local sums = redis.call('HMGET', key, 'c', 'f', 'o')
  return tonumber(sums[1]), tonumber(sums[2]), tonumber(sums[3])
end
"""
