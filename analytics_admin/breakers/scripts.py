"""The Redis store's scripts: they compare and count, atomically; the rules are elsewhere.

Keys of one breaker share a hash tag. ``<record>`` is a hash:

    g generation, s state, e entered_at, w wait, a attempts, p permits granted,
    r run of failures, l last_failure_at, c calls, f failures, o slow calls,
    and under a hold: k control, u until ("" for ever), x actor, z reason

``<record>:time:<seconds>`` is a hash of g generation and ``<second>c``, ``<second>f``,
``<second>o``. ``<record>:count:<calls>`` is a hash of g, c, f, o; its calls in their order are
the list ``<record>:count:<calls>:runs`` of "calls failures slow". ``<record>:moves`` is a list of
transitions, newest first.
"""

_NOW = """
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
"""

# Per key: generation, "time" or "count" or "", window size, newest success, slow successes,
# failures, slow failures, number of batches; per batch: second, quick successes.
ADD = f"""{_NOW}
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function number()
  return tonumber(take())
end

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
  local sums = {{c = 0, f = 0, o = 0}}
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

local answer = {{now}}
for i, key in ipairs(KEYS) do
  local generation, kind, size, newest = take(), take(), number(), number()
  local slow_successes, failures, slow_failures, batches = number(), number(), number(), number()
  local cells, successes = {{}}, slow_successes
  for _ = 1, batches do
    local cell = {{number(), number(), 0, 0}}
    successes = successes + cell[2]
    cells[#cells + 1] = cell
  end
  if slow_successes > 0 then
    cells[#cells + 1] = {{second, slow_successes, 0, slow_successes}}
  end
  if failures > 0 then cells[#cells + 1] = {{second, failures, failures, 0}} end
  if slow_failures > 0 then
    cells[#cells + 1] = {{second, slow_failures, slow_failures, slow_failures}}
  end
  local record = read(key)
  local told = #cells > 0 and record[1] == generation and generation ~= ''
    and record[12] ~= 'disabled' and record[12] ~= 'forced_open'
  if not told then cells = {{}} end
  if told then
    local failed = failures + slow_failures
    local run = tonumber(record[7]) or 0
    local last_failure = tonumber(record[8]) or 0
    if last_failure > tonumber(now) then last_failure = 0 end -- the clock was set back
    if successes > 0 and newest > last_failure then run = 0 end
    record[7] = tostring(run + failed)
    redis.call('HSET', key, 'r', record[7])
    record[9] = redis.call('HINCRBY', key, 'c', successes + failed)
    if failed > 0 then
      record[8] = now
      redis.call('HSET', key, 'l', now)
      record[10] = redis.call('HINCRBY', key, 'f', failed)
    end
    if slow_successes + slow_failures > 0 then
      record[11] = redis.call('HINCRBY', key, 'o', slow_successes + slow_failures)
    end
  end
  if kind ~= '' and record[1] and record[1] ~= '' then
    record[13], record[14], record[15] =
      window_counts(key .. ':' .. kind .. ':' .. size, kind, size, record[1], cells)
  end
  answer[i + 1] = record
end
return answer
"""

# Per key: expected generation, expected permits, new generation, state, wait, attempts, permits,
# cause, attempt id, actor; control, until, holder, reason of the hold, all "" without one.
COMPARE_AND_SET = f"""{_NOW}
local answer = {{now}}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 14
  local old = read(key)
  local won = 0
  local permits = tonumber(old[6] or 0) or 0
  if (old[1] or '') == ARGV[at + 1] and permits == tonumber(ARGV[at + 2]) then
    won = 1
    if old[1] == '' then redis.call('DEL', key) end
    if old[1] == ARGV[at + 3] then
      redis.call('HSET', key, 'p', ARGV[at + 7])
    else
      redis.call('HSET', key, 'g', ARGV[at + 3], 's', ARGV[at + 4], 'e', now, 'w', ARGV[at + 5],
        'a', ARGV[at + 6], 'p', ARGV[at + 7], 'r', 0, 'l', 0, 'c', 0, 'f', 0, 'o', 0)
      redis.call('HDEL', key, 'k', 'u', 'x', 'z')
      if ARGV[at + 11] ~= '' then
        redis.call('HSET', key, 'k', ARGV[at + 11], 'u', ARGV[at + 12], 'x', ARGV[at + 13],
          'z', ARGV[at + 14])
      end
    end
    if old[1] and ARGV[at + 8] ~= '' then
      local before = old[12] or old[2] or 'unknown'
      local after = ARGV[at + 11] ~= '' and ARGV[at + 11] or ARGV[at + 4]
      redis.call('LPUSH', key .. ':moves', table.concat({{ARGV[at + 9], before, after,
        ARGV[at + 8], now, old[7] or 0, old[9] or 0, old[10] or 0, old[11] or 0, ARGV[at + 10]}},
        ' '))
      redis.call('LTRIM', key .. ':moves', 0, 19)
    end
  end
  answer[i + 1] = {{won, read(key)}}
end
return answer
"""
